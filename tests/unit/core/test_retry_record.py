"""Copies in retry lanes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_bridge import headers as h
from broker_bridge.core.retry_record import write_retry
from broker_bridge.message import Header, OutgoingRecord, Position, Record

ORIGIN = Position("orders.placed", 2, 10)
HEADERS: list[Header] = [("ce_id", b"e-1"), ("x", None), ("x", b""), ("x", b"\xff")]


def retry_of(
    record: Record, *, attempt: int = 3, first_failure_ms: int | None = 900, lane: str = "lane"
) -> OutgoingRecord:
    """The copy of a record whose origin is `ORIGIN`."""
    return write_retry(
        record,
        topic=lane,
        origin=ORIGIN,
        origin_timestamp_ms=500,
        group="payments",
        attempt=attempt,
        due_ms=3_000,
        now_ms=1_000,
        first_failure_ms=first_failure_ms,
    )


def stored(record: OutgoingRecord) -> Record:
    """The copy as it is read back."""
    assert record.partition is not None
    assert record.timestamp_ms is not None
    return Record(record.topic, record.partition, 77, record.timestamp_ms, record.key, record.value, record.headers)


def test_a_failed_message() -> None:
    out = retry_of(Record(*ORIGIN, 500, b"customer", b"body", HEADERS))
    assert list(out.headers) == [
        *HEADERS,
        ("bridge-origin", b"orders.placed/2/10"),
        ("bridge-origin-timestamp-ms", b"500"),
        ("bridge-group", b"payments"),
        ("bridge-attempt", b"3"),
        ("bridge-due-ms", b"3000"),
        ("bridge-first-failure-ms", b"900"),
    ]
    assert (out.topic, out.partition, out.timestamp_ms) == ("lane", 2, 1_000)
    assert (out.key, out.value) == (b"customer", b"body")


def test_a_parked_message_says_so_and_has_no_first_failure() -> None:
    found = dict(retry_of(Record(*ORIGIN, 500, None, None), attempt=0, first_failure_ms=None).headers)
    assert found[h.PARKED] == b"1"
    assert h.FIRST_FAILURE_MS not in found


def test_the_copy_of_a_copy_is_replaced_not_appended() -> None:
    parked = stored(retry_of(Record(*ORIGIN, 500, b"k", b"v", HEADERS), attempt=0, first_failure_ms=None))
    again = stored(retry_of(parked, attempt=1, lane="next"))
    names = [name for name, _ in again.headers if name.startswith("bridge-")]
    assert len(names) == len(set(names))
    assert h.PARKED not in names
    assert h.int_of(again.headers, h.ATTEMPT, -1) == 1
    assert h.without_bridge(again.headers) == HEADERS
    assert h.identify(again, trusted=True).origin == ORIGIN


@pytest.mark.parametrize("first_failure_ms", [None, 900])
def test_replay_headers_stay_over_any_number_of_copies(first_failure_ms: int | None) -> None:
    replay: list[Header] = [(h.REPLAY_ID, b"rp-1"), (h.HOPS, b"2"), (h.DEAD_LETTER, b"dlq/2/5")]
    record = Record("payments.orders.placed.redrive", 2, 0, 800, b"k", b"v", [*HEADERS, *replay])
    for _ in range(3):
        record = stored(retry_of(record, first_failure_ms=first_failure_ms))
        assert [header for header in record.headers if header in replay] == replay
        assert h.without_bridge(record.headers) == HEADERS


def test_an_outsider_cannot_pass_for_a_replay() -> None:
    claimed: list[Header] = [(h.REPLAY_ID, b"rp-1"), (h.HOPS, b"2"), (h.DEAD_LETTER, b"d/0/0"), (h.ATTEMPT, b"50")]
    found = retry_of(Record(*ORIGIN, 500, b"k", b"v", claimed)).headers
    assert not {h.REPLAY_ID, h.HOPS, h.DEAD_LETTER} & {name for name, _ in found}
    assert h.int_of(found, h.ATTEMPT, -1) == 3


@given(
    key=st.none() | st.binary(max_size=8),
    value=st.none() | st.binary(max_size=8),
    headers=st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=6),
)
def test_bytes_and_identity_stay(key: bytes | None, value: bytes | None, headers: list[Header]) -> None:
    record = Record(*ORIGIN, 500, key, value, headers)
    copy = stored(retry_of(record))
    assert (copy.key, copy.value, h.without_bridge(copy.headers)) == (key, value, h.without_bridge(headers))
    assert h.identify(copy, trusted=True) == h.identify(record, trusted=False)
