"""A copy written from a letter's bytes is the one that is written from what they mean, or none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker_bridge import headers as h
from broker_bridge.core.dead_letter import DeadLetter, Failure, read_dead_letter, write_dead_letter, write_redrive
from broker_bridge.core.redrive_copy import RedriveCopies
from broker_bridge.core.replay_plan import PlanItem, plan_item
from broker_bridge.message import Header, Position, Record

TOPIC, LANE = "orders.placed", "payments.orders.placed.redrive"
COPIES = RedriveCopies(namespace=TOPIC, topic=LANE, group="payments", replay_id="rp-1", order="as-is")
IDS: list[Header] = [("ce_id", b"o-1"), ("ce_source", b"/shop")]


def letter_of(
    headers: list[Header], *, key: bytes | None = b"k", value: bytes | None = b"v", hops: int = 0
) -> DeadLetter:
    """As a worker writes it: of a source record, or of one that was replayed before."""
    origin = Position(TOPIC, 1, 7)
    record = Record(TOPIC, 1, 7, 1_790_000_000_000, key, value, headers)
    if hops:
        lane = [(h.ORIGIN, str(origin).encode()), (h.HOPS, b"%d" % hops), (h.REPLAY_ID, b"rp-0"), (h.REPLAY_ITEM, b"3")]
        record = Record(LANE, 1, 2, 1, key, value, [*headers, *lane])
    written = write_dead_letter(
        record,
        topic="dlq",
        origin=origin,
        timestamp_ms=1_790_000_000_000,
        group="payments",
        service="s",
        failure=Failure("target_rejected", "E", "no", "card", 1, 5, 6),
        include_message=True,
    )
    return read_dead_letter(Record("dlq", 1, 4, 1_790_000_000_000, key, value, list(written.headers)))


def both(letter: DeadLetter, item: PlanItem | None = None) -> tuple[object, object]:
    item = item or plan_item(letter, namespace=TOPIC)
    slow = write_redrive(letter, topic=LANE, replay_id="rp-1", now_ms=9, item=12, order="as-is")
    return COPIES.plain_copy(12, item, letter, now_ms=9), slow


@pytest.mark.parametrize("hops", [0, 2])
@pytest.mark.parametrize(
    ("headers", "key", "value"),
    [
        (IDS, b"k", b"v"),
        ([], None, None),
        ([("idempotency-key", b"abc"), *IDS, ("x", None), ("x", b"\xff")], b"", b""),
        ([("ce_id", "é".encode()), ("ce_source", b"/a#b")], b"k", b"v" * 2_000),
    ],
)
def test_it_is_what_is_written_the_long_way(
    headers: list[Header], key: bytes | None, value: bytes | None, hops: int
) -> None:
    fast, slow = both(letter_of(headers, key=key, value=value, hops=hops))
    assert fast == slow


@pytest.mark.parametrize(
    "changes",
    [
        {"offset": 5},
        {"partition": 0},
        {"origin_offset": 8},
        {"origin_partition": 0},
        {"claim": "00" * 16},
        {"payload": "00" * 8},
        {"code": "other"},
        {"hops": 1},
        {"key_hash": "00000000"},
        {"sends": "00" * 8},
        {"forces": "o-1"},
        {"origin_topic": "elsewhere"},
    ],
)
def test_whatever_differs_is_looked_at_more_closely(changes: dict[str, object]) -> None:
    letter = letter_of(IDS)
    item = plan_item(letter, namespace=TOPIC)
    assert both(letter, item)[0] is not None
    assert both(letter, item._replace(**changes))[0] is None  # type: ignore[arg-type]


def test_letters_that_are_not_plain() -> None:
    letter = letter_of(IDS)
    item = plan_item(letter, namespace=TOPIC)
    assert letter.record is not None
    edited = replace(letter.record, headers=[*letter.record.headers, (h.EDITED_FROM, b"00" * 8)])
    assert COPIES.plain_copy(12, item, read_dead_letter(edited), now_ms=9) is None
    foreign = replace(letter.record, headers=[one for one in letter.record.headers if one[0] != h.GROUP])
    assert COPIES.plain_copy(12, item, read_dead_letter(foreign), now_ms=9) is None
    assert COPIES.plain_copy(12, item, replace(letter, record=None), now_ms=9) is None
