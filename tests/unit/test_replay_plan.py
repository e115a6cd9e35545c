"""Plans: what is written is what is read, and nothing else is (damage is always found)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.core.plan_lines import (
    end_line,
    header_line,
    item_line,
    items_of,
    seal,
    skipped_line,
    skipped_of,
    verify,
)
from broker_bridge.core.replay_plan import PlanHeader, PlanItem, Prediction, SkippedLetter
from broker_bridge.errors import NotFoundError, PlanInvalidError, PlanRefusedError, UsageError
from broker_bridge.replay.plan_file import open_plan, write_plan

HEADER = PlanHeader(
    created_at="2026-11-24T08:00:00.000Z",
    by="ada",
    why="the card service is back – grüße",
    route="payments",
    group="payments",
    topic="orders.placed",
    dead_letter_topic="payments.orders.placed.dlq",
    destination="payments.orders.placed.redrive",
    max_hops=3,
    allow_expired=False,
    source={"kind": "dead_letters", "topic": "payments.orders.placed.dlq"},
    selection={"codes": ["target_rejected"]},
    source_until={"0": 7},
    redrive_from={"0": 0},
    prediction=Prediction(selected=3, to_replay=2, undecodable=1, undecodable_at=("d/0/4",)),
)
ITEMS = [
    PlanItem(0, n, 0, n, f"{n:032x}", "00" * 8, "target_rejected", "abcdefabcdef", 0, "01020304") for n in range(3)
]
SKIPPED = [
    SkippedLetter(0, 3, 0, 3, f"{3:032x}", "undecodable"),
    SkippedLetter(0, 4, 0, 3, f"{3:032x}", "stale", "elsewhere"),
]


def lines_of(header: PlanHeader = HEADER, items: list[PlanItem] = ITEMS) -> list[bytes]:
    body = [header_line(header), *map(item_line, items), *map(skipped_line, SKIPPED)]
    return [*body, end_line(seal(body))]


def test_reads_back_what_was_written() -> None:
    lines = lines_of()
    header, end = verify(lines)
    assert header == HEADER
    assert list(items_of(lines)) == ITEMS
    assert list(skipped_of(lines)) == SKIPPED
    assert (end.items, end.skipped) == (3, 2)
    assert end.plan_id == f"rp-{end.sha256[:16]}"


def test_the_id_follows_from_the_content() -> None:
    other = lines_of(items=ITEMS[:2])
    assert verify(lines_of())[1].plan_id == verify(lines_of())[1].plan_id
    assert verify(other)[1].plan_id != verify(lines_of())[1].plan_id


def test_cut_anywhere_is_invalid() -> None:
    whole = b"".join(lines_of())
    for length in range(len(whole)):
        with pytest.raises(PlanInvalidError):
            verify(whole[:length].splitlines(keepends=True))


def test_any_changed_byte_is_invalid() -> None:
    whole = b"".join(lines_of())
    for index in range(len(whole)):
        for other in (whole[index] ^ 1, 0x20, 0x0A):
            if other == whole[index]:
                continue
            damaged = whole[:index] + bytes([other]) + whole[index + 1 :]
            with pytest.raises(PlanInvalidError):
                verify(damaged.splitlines(keepends=True))


@given(st.data())
def test_lines_added_dropped_repeated_or_swapped_are_invalid(data: st.DataObject) -> None:
    lines = lines_of()
    edited = data.draw(st.lists(st.sampled_from(lines), max_size=8))
    if edited == lines:
        return
    with pytest.raises(PlanInvalidError):
        verify(edited)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda raw: b"", "empty"),
        (lambda raw: raw[:-1], "cut off"),
        (lambda raw: b"".join(raw.splitlines(keepends=True)[:-1]), "cut short after 5 letters"),
        (lambda raw: raw.replace(b'"by":"ada"', b'"by":"bob"'), "changed after it was made"),
        (lambda raw: raw.replace(b"\n", b"\r\n"), "CR LF"),
        (lambda raw: raw + b"{}\n", "after the end"),
        (lambda raw: raw.replace(b'"version":2', b'"version":9'), "version 9"),
        (lambda raw: raw.replace(b'"items":3', b'"items":2'), "says 2 items and 2 skipped letters but holds 3 and 2"),
        (lambda raw: raw.replace(b'"why"', b'"wly"'), "lacks why"),
        (lambda raw: b"# a shopping list\n", "not JSON"),
        (lambda raw: b'{"kind":"other"}\n', "does not begin as a replay plan"),
    ],
)
def test_damage_is_named(edit, says, tmp_path: Path) -> None:
    path = tmp_path / "a.plan"
    path.write_bytes(edit(b"".join(lines_of())))
    with pytest.raises(PlanInvalidError, match=says) as caught, open_plan(path):
        pass
    assert caught.value.where == str(path)
    assert caught.value.remedy


def test_file_is_whole_or_absent_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.plan"
    end = write_plan(path, HEADER, map(item_line, ITEMS))
    with open_plan(path) as plan:
        assert (plan.header, plan.end, plan.id) == (HEADER, end, end.plan_id)
        assert list(plan.items()) == ITEMS == list(plan.items())
    with pytest.raises(UsageError, match="exists already"):
        write_plan(path, HEADER, [])
    assert [found.name for found in tmp_path.iterdir()] == ["a.plan"]
    with pytest.raises(NotFoundError), open_plan(tmp_path / "b.plan"):
        pass
    with pytest.raises(PlanInvalidError), open_plan(tmp_path):
        pass


def test_one_run_at_a_time_on_one_machine(tmp_path: Path) -> None:
    path = tmp_path / "a.plan"
    write_plan(path, HEADER, map(item_line, ITEMS))
    with open_plan(path) as first:
        first.hold()
        with open_plan(path) as second, pytest.raises(PlanRefusedError, match="another run"):
            second.hold()
    with open_plan(path) as third:
        third.hold()
