"""The copy of a record that waits in a retry lane: by whom it was tried, how often, and when it is due."""

from __future__ import annotations

from broker_bridge import headers as h
from broker_bridge.message import Header, OutgoingRecord, Position, Record


def write_retry(
    record: Record,
    *,
    topic: str,
    origin: Position,
    origin_timestamp_ms: int,
    group: str,
    attempt: int,
    due_ms: int,
    now_ms: int,
    first_failure_ms: int | None,
    error_code: str = "",
    held: bool = False,
) -> OutgoingRecord:
    """The copy for retry lane ``topic``, in the partition of the origin.

    Without ``first_failure_ms`` the message was never tried: it parks behind an earlier message of its key.
    ``error_code`` is that of its last failure. A ``held``
    copy is not tried at all: its message is dead and keeps the key held. Replay
    headers of the group's own lanes stay; in the source topic they would be an outsider's word.
    """
    kept = () if record.position == origin else h.OF_A_REPLAY
    added: list[Header] = [
        *(header for header in record.headers if header[0] in kept),
        (h.ORIGIN, str(origin).encode()),
        (h.ORIGIN_TIMESTAMP_MS, str(origin_timestamp_ms).encode()),
        (h.GROUP, group.encode()),
        (h.ATTEMPT, str(attempt).encode()),
        (h.DUE_MS, str(due_ms).encode()),
    ]
    if held:
        added.append((h.HELD, b"1"))
    if first_failure_ms is None:
        added.append((h.PARKED, b"1"))
    else:
        added.append((h.FIRST_FAILURE_MS, str(first_failure_ms).encode()))
    if error_code:
        added.append((h.ERROR_CODE, error_code.encode()))
    return OutgoingRecord(
        topic=topic,
        key=record.key,
        value=record.value,
        headers=h.without_bridge(record.headers) + added,
        partition=origin.partition,
        timestamp_ms=now_ms,
    )
