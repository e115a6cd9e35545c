"""What the relay decides about a batch: pure functions of rows and answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from broker_bridge.errors import BridgeError, HeadersInvalidError, RecordTooLargeError, TransportError
from broker_bridge.message import OutgoingRecord, Position
from broker_bridge.outbox.row import OutboxRow

LARGE_BYTES: Final = 65_536
"""A row of this size might be refused by its topic's limit; nothing of its key may be on the way behind it then."""

Key = tuple[str, bytes | None]
Answer = Position | TransportError


class Outcome(NamedTuple):
    """What became of the rows of a batch. Rows that are in none of these were not acknowledged and stay."""

    sent: list[int]
    refused: dict[int, BridgeError]
    """By row id: Kafka will never take them."""
    failed: dict[str, TransportError]
    """By topic: it did not take something now."""


def without_followers_of_large(rows: Sequence[OutboxRow]) -> list[OutboxRow]:
    """The rows that may go in one batch: a large row is the last of its key in it."""
    ended: set[Key] = set()
    kept: list[OutboxRow] = []
    for row in rows:
        key = (row.topic, row.key)
        if row.key is not None and key in ended:
            continue
        kept.append(row)
        if row.size_bytes >= LARGE_BYTES:
            ended.add(key)
    return kept


def readable(rows: Sequence[OutboxRow]) -> tuple[list[OutboxRow], list[OutgoingRecord], dict[int, BridgeError]]:
    """Rows with their records; apart from them, by id, those whose headers cannot be read (another program wrote them).

    What follows such a row under its key is left out, as it would be behind any row that is set aside.
    """
    kept: list[OutboxRow] = []
    records: list[OutgoingRecord] = []
    damaged: dict[int, BridgeError] = {}
    ended: set[Key] = set()
    for row in rows:
        if row.key is not None and (row.topic, row.key) in ended:
            continue
        try:
            records.append(row.record())
            kept.append(row)
        except ValueError as error:
            damaged[row.id] = HeadersInvalidError(str(error), where=row.topic)
            ended.add((row.topic, row.key))
    return kept, records, damaged


def judged(rows: Sequence[OutboxRow], answers: Sequence[Answer]) -> Outcome:
    """What the answers mean. Behind a row that failed, nothing of its key counts as sent, even if it was."""
    outcome = Outcome([], {}, {})
    stopped: set[Key] = set()
    for row, answer in zip(rows, answers, strict=True):
        key = (row.topic, row.key)
        if row.key is not None and key in stopped:
            continue
        if isinstance(answer, Position):
            outcome.sent.append(row.id)
        elif isinstance(answer, RecordTooLargeError):
            outcome.refused[row.id] = answer
        else:
            outcome.failed.setdefault(row.topic, answer)
            stopped.add(key)
    return outcome
