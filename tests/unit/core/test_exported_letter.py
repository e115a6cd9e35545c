"""Exported dead letters: every byte comes back, and whatever is not what was written is refused with its line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.core.dead_letter import read_dead_letter
from broker_bridge.core.exported_letter import (
    ExportHeader,
    Seal,
    end_line,
    header_line,
    letter_line,
    letter_record,
    verify,
)
from broker_bridge.errors import ExportInvalidError, NotFoundError, ReplayError, UsageError
from broker_bridge.message import Record
from broker_bridge.replay.export import ExportedFile, new_export

TOPIC = "payments.orders.dlq"
HEADER = ExportHeader(
    at="2026-11-24T08:00:00.000Z",
    by="ada",
    route="payments",
    group="payments",
    topic="orders",
    dead_letter_topic=TOPIC,
    selection={"codes": ["target_rejected"]},
)

some_bytes = st.none() | st.binary(max_size=40) | st.text(max_size=20).map(lambda text: text.encode(errors="replace"))
header_names = st.text(st.characters(codec="utf-8"), max_size=12)
records = st.builds(
    Record,
    st.just(TOPIC),
    st.integers(0, 2**31 - 1),
    st.integers(0, 2**63 - 1),
    st.integers(-1, 2**63 - 1),
    some_bytes,
    some_bytes,
    st.lists(st.tuples(header_names | st.sampled_from(["ce_id", "bridge-hops", "bridge-origin"]), some_bytes)),
)


def a_record(offset: int = 0, value: bytes | None = b"value") -> Record:
    headers = [("ce_id", b"o-1"), ("ce_source", b"/shop"), ("tag", None), ("tag", b"\xff"), ("tag", b"")]
    return Record(TOPIC, 0, offset, 1_790_000_000_000, b"customer-1", value, headers)


def an_export(count: int = 3) -> list[bytes]:
    found = [a_record(offset) for offset in range(count)]
    lines = [header_line(HEADER), *(letter_line(record, read_dead_letter(record)) for record in found)]
    seal = Seal()
    for line in lines:
        seal.add(line)
    return [*lines, end_line(seal.end())]


@given(records)
def test_every_byte_comes_back(record: Record) -> None:
    line = letter_line(record, read_dead_letter(record), state="waiting", decoded={"n": 1})
    assert line.count(b"\n") == 1
    found = letter_record(line, 2, topic=TOPIC)
    assert found == record
    assert read_dead_letter(found) == read_dead_letter(record)


def test_text_is_readable_and_other_bytes_are_base64() -> None:
    record = Record(TOPIC, 0, 7, 5, "Zoë".encode(), b"a\x00b", [("x", b"\xff"), ("x", None), ("x", b"")])
    found = json.loads(letter_line(record, read_dead_letter(record), state="waiting", decoded={"amount": 1}))
    assert (found["key"], found["value"]) == ({"text": "Zoë"}, {"base64": "YQBi"})
    assert found["headers"] == [["x", {"base64": "/w=="}], ["x", None], ["x", {"text": ""}]]
    assert found["value_json"] == {"amount": 1}
    assert (found["about"]["state"], found["about"]["origin"]) == ("waiting", f"{TOPIC}/0/7")


@pytest.mark.parametrize("decoded", [None, float("nan"), {"x": float("inf")}, {"x": object()}, {"x": "\ud800"}])
def test_a_value_that_is_not_json_is_left_out(decoded: object) -> None:
    line = letter_line(a_record(), read_dead_letter(a_record()), decoded=decoded)
    assert "value_json" not in json.loads(line)
    assert letter_record(line, 2, topic=TOPIC) == a_record()


def test_a_sound_export_is_verified() -> None:
    header, end = verify(an_export(3))
    assert header == HEADER
    assert end.letters == 3
    assert verify(an_export(0)).end.letters == 0


def lines_without(index: int) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: lines[:index] + lines[index + 1 :]


def changed(index: int, change: Callable[[bytes], bytes]) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: [change(line) if n == index else line for n, line in enumerate(lines)]


def letter(**fields: object) -> Callable[[list[bytes]], list[bytes]]:
    """The second line with these fields changed; None as a text takes one out."""

    def change(line: bytes) -> bytes:
        found = {**json.loads(line), **fields}
        return json.dumps({name: value for name, value in found.items() if value != "out"}).encode() + b"\n"

    return changed(1, change)


BROKEN = {
    "empty": (lambda lines: [], "the file is empty"),
    "cut between lines": (lambda lines: lines[:-1], "line 5 is missing: the file was cut short after 3 letters"),
    "cut in a line": (changed(4, lambda line: line[:-9]), "line 5 is cut off"),
    "cut in a letter": (lambda lines: [*lines[:2], lines[2][:20]], "line 3 is cut off"),
    "a letter taken out": (lines_without(2), "line 4 says 3 letters, but the file holds 2"),
    "a letter doubled": (lambda lines: [*lines[:2], *lines[1:]], "line 6 says 3 letters, but the file holds 4"),
    "two letters swapped": (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "line 5 says another hash"),
    "a value edited": (changed(2, lambda line: line.replace(b'"value"}', b'"eulav"}')), "line 5 says another hash"),
    "the decoded value edited": (letter(value_json=1), "line 5 says another hash"),
    "the header edited": (changed(0, lambda line: line.replace(b"ada", b"eve")), "line 5 says another hash"),
    "glued": (lambda lines: lines * 2, "line 6 comes after the end"),
    "converted": (changed(1, lambda line: line[:-1] + b"\r\n"), "line 2 ends in CR LF"),
    "no header": (lambda lines: lines[1:], "line 1 is not the header"),
    "newer": (changed(0, lambda line: line.replace(b'"version":1', b'"version":2')), "line 1 says version 2"),
    "no group": (changed(0, lambda line: line.replace(b'"group"', b'"gruop"')), "line 1 has no sound group"),
    "a plan": (changed(0, lambda _: b'{"kind":"plan","version":2}\n'), "line 1 is not the header"),
    "gzip": (changed(0, lambda line: b"\x1f\x8b\x08" + line), "line 1 is compressed"),
    "garbage": (lambda lines: [b"\x00\xff\xfe\n"], "line 1 is not JSON"),
    "a list": (changed(1, lambda _: b"[1]\n"), "line 2 is not a JSON object"),
    "NaN": (changed(1, lambda _: b'{"kind":"letter","x":NaN}\n'), "line 2 is not JSON"),
    "deep": (changed(1, lambda _: b"[" * 100_000 + b"\n"), "line 2 is not JSON"),
    "another kind": (letter(kind="item"), "line 2 is not a letter"),
    "no key": (letter(key="out"), "line 2 is not a letter"),
    "no base64": (letter(value={"base64": "?"}), "line 2 is not a letter"),
    "two forms": (letter(value={"base64": "", "text": ""}), "line 2 is not a letter"),
    "another form": (letter(value={"hex": "00"}), "line 2 is not a letter"),
    "a form that is no text": (letter(value={"text": 1}), "line 2 is not a letter"),
    "a lone surrogate": (letter(value={"text": "\ud800"}), "line 2 is not a letter"),
    "a header of three": (letter(headers=[["a", None, None]]), "line 2 is not a letter"),
    "a header without a name": (letter(headers=[[1, None]]), "line 2 is not a letter"),
    "no place": (letter(offset=-1), "line 2 is not a letter"),
    "a place that is true": (letter(partition=True), "line 2 is not a letter"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_what_was_written_is_refused(name: str, tmp_path: Path) -> None:
    change, told = BROKEN[name]
    lines = change(an_export(3))
    with pytest.raises(ExportInvalidError) as caught:
        verify(lines)
    assert caught.value.detail.startswith(told)
    assert caught.value.remedy
    (tmp_path / "x").write_bytes(b"".join(lines))
    with pytest.raises(ExportInvalidError) as named, ExportedFile.open(tmp_path / "x"):
        pass
    assert named.value.where == str(tmp_path / "x")


@given(st.data())
def test_no_single_byte_can_be_changed(data: st.DataObject) -> None:
    whole = b"".join(an_export(2))
    at = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[at]))
    with pytest.raises(ExportInvalidError):
        verify((whole[:at] + bytes([other]) + whole[at + 1 :]).splitlines(keepends=True))


@given(st.data())
def test_no_half_of_a_file_is_taken(data: st.DataObject) -> None:
    whole = b"".join(an_export(2))
    with pytest.raises(ExportInvalidError):
        verify(whole[: data.draw(st.integers(0, len(whole) - 1))].splitlines(keepends=True))


# -- as a file


def written(path: Path, count: int = 3) -> list[Record]:
    found = [a_record(offset, value=f"value {offset}".encode()) for offset in range(count)]
    with new_export(path, HEADER) as writer:
        for record in found:
            writer.add(letter_line(record, read_dead_letter(record)))
        assert not path.exists()
        end = writer.finish()
    assert (writer.letters, end.letters, writer.written_bytes) == (count, count, path.stat().st_size)
    return found


def test_letters_are_walked_again_and_read_at_their_place(tmp_path: Path) -> None:
    found = written(tmp_path / "x")
    assert (tmp_path / "x").stat().st_mode & 0o077 == 0, "it holds keys and payloads"
    with ExportedFile.open(tmp_path / "x") as file:
        walked = list(file.letters())
        assert [one.record for one in walked] == found
        assert list(file.letters()) == walked
        for one in reversed(walked):
            assert file.read_at(one.at) == one.letter
        for at in (0, walked[0].at + 1, walked[2].at + 3, (tmp_path / "x").stat().st_size, 10**9):
            with pytest.raises(ExportInvalidError, match=f"no letter begins at byte {at}"):
                file.read_at(at)


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_export(tmp_path / "x", HEADER):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists"), new_export(tmp_path / "x", HEADER):
        pass
    assert (tmp_path / "x").read_bytes() == b"mine"
    with pytest.raises(ReplayError, match="cannot write"), new_export(tmp_path / "none" / "x", HEADER):
        pass


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError), ExportedFile.open(tmp_path / "x"):
        pass
    with pytest.raises(ExportInvalidError, match="cannot be read"), ExportedFile.open(tmp_path):
        pass
