"""Sorting on disk gives what sorting in memory gives."""

from __future__ import annotations

import tempfile

from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.replay import sorted_lines
from broker_bridge.replay.sorted_lines import SortedLines, lines_between, taking_turns

lines = st.lists(st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"") + b"\n"), max_size=60)


@given(lines, st.integers(1, 400))
def test_lines_come_back_sorted_whatever_the_run(given_: list[bytes], run_bytes: int) -> None:
    found = SortedLines(run_bytes=run_bytes)
    try:
        for line in given_:
            found.add(line)
        assert list(found.walk()) == sorted(given_)
    finally:
        found.close()


@given(lines)
def test_walks_of_one_file_do_not_disturb_each_other(given_: list[bytes]) -> None:
    with tempfile.TemporaryFile() as file:
        file.writelines(given_)
        file.flush()
        size = sum(map(len, given_))
        one, other = lines_between(file, 0, size), lines_between(file, 0, size)
        assert [pair for line in one for pair in (line, next(other))] == [
            pair for line in given_ for pair in (line, line)
        ]


def test_a_line_without_an_end_is_given_as_it_is(monkeypatch) -> None:
    monkeypatch.setattr(sorted_lines, "_READ_BYTES", 4)
    with tempfile.TemporaryFile() as file:
        file.write(b"one\ntwo")
        file.flush()
        assert list(lines_between(file, 0, 7)) == [b"one\n", b"two"]
        monkeypatch.setattr(sorted_lines, "LONGEST_LINE", 2)
        assert list(lines_between(file, 0, 7)) == [b"one\n", b"two"]
        file.write(b" and a line that is too long\n" * 9)
        file.flush()
        assert not list(lines_between(file, 4, 200))[-1].endswith(b"\n")


@given(st.lists(st.lists(st.integers(), max_size=9), max_size=4), st.integers(1, 4))
def test_walks_take_turns(given_: list[list[int]], block: int) -> None:
    walks = [iter([b"%d" % number for number in walk]) for walk in given_]
    found = list(taking_turns(walks, block=block))
    expected = []
    for turn in range(10):
        for walk in given_:
            expected += [b"%d" % number for number in walk[turn * block : (turn + 1) * block]]
    assert found == expected
