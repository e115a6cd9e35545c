"""The books of a route against its target's own list: both on disk, compared key by key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

from broker_bridge.core.audit import Outcome
from broker_bridge.core.reconcile import (
    Applied,
    BookEntry,
    Reconciliation,
    TargetLine,
    Terms,
    base_key,
    judge_key,
    judge_order,
)
from broker_bridge.errors import AuditError
from broker_bridge.message import Position
from broker_bridge.replay.scratch import Row, Scratch, in_step

_TABLES = """
CREATE TABLE entry (
    base BLOB, name BLOB, partition INTEGER, at INTEGER, key BLOB, outcome TEXT, code TEXT, event_id BLOB,
    timestamp_ms INTEGER, deadline_ms INTEGER);
CREATE TABLE line (
    base BLOB, number INTEGER, name BLOB, kind TEXT, attempt INTEGER, crashes INTEGER, replay_id TEXT, topic TEXT,
    partition INTEGER, at INTEGER, at_ms INTEGER, result_id BLOB, is_event_id INTEGER);
CREATE TABLE applied (partition INTEGER, key BLOB, number INTEGER, at INTEGER, name BLOB);
"""
_ENTRY = "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_LINE = "INSERT INTO line VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_BY_EVENT_ID = (
    "CREATE INDEX by_name ON entry (name)",
    "CREATE INDEX by_event_id ON entry (event_id)",
    # The record that holds the claim comes before its duplicates.
    """
    UPDATE line SET (base, name) = (
        SELECT base, name FROM entry WHERE entry.event_id = line.name ORDER BY outcome = 'duplicate' LIMIT 1)
    WHERE is_event_id AND NOT EXISTS (SELECT 1 FROM entry WHERE entry.name = line.name)
    AND EXISTS (SELECT 1 FROM entry WHERE entry.event_id = line.name)""",
)
_LARGEST = 2**63 - 1


class Reconciler:
    """Of one route: entries of the books first, then lines of the list, then ``compare``."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._scratch = Scratch(_TABLES)
        self._foreign = 0
        self._has_event_ids = False
        self._is_interrupted = False
        self.needs_newer = False
        """Whether a line gave no origin: only the whole source topic can tell whether it is one of its records."""

    def interrupt(self) -> None:
        """Have ``compare``, which runs in another thread, raise ``AuditError`` soon."""
        self._is_interrupted = True
        self._scratch.interrupt()

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        self._scratch.close()

    def enter(self, entry: BookEntry) -> None:
        """One record of the books."""
        _, partition, at = entry.position
        key = entry.idempotency_key
        row = (_bytes(base_key(key)), _bytes(key), partition, at, entry.key, entry.outcome.value, entry.code)
        event_id = _bytes(entry.event_id or str(entry.position))
        self._scratch.add(_ENTRY, (*row, event_id, entry.timestamp_ms, entry.deadline_ms))

    def line(self, line: TargetLine, covers: Callable[[Position], bool] | None = None) -> None:
        """One line of the list. Where its origin is of another topic, or not covered by the books, it is counted as
        foreign and left alone."""
        origin = line.origin
        if origin is None:
            self.needs_newer = True
        elif origin.topic != self._topic or (covers is not None and not covers(origin)):
            self._foreign += 1
            return
        name = _bytes(line.key)
        row = (_bytes(base_key(line.key)), line.number, name, line.kind, _small(line.attempt), _small(line.crashes))
        result_id = None if line.result_id is None else _bytes(line.result_id)
        replayed = "yes" if line.replay_id else None
        rest = (*(origin or (None,) * 3), line.at_ms, result_id, line.is_event_id)
        self._scratch.add(_LINE, (*row, replayed, *rest))
        self._has_event_ids |= line.is_event_id

    def pass_over(self) -> None:
        """Something in the list that names no message at all."""
        self._foreign += 1

    def compare(self, terms: Terms, *, is_ordered: bool) -> Reconciliation:
        """Both sides. ``is_ordered``: the route keeps order per record key, so first applications must follow offsets,
        replayed ones excepted. A million keys take ten seconds and more: call it in a thread."""
        scratch, result = self._scratch, Reconciliation(foreign=self._foreign)
        if self._has_event_ids:
            for statement in _BY_EVENT_ID:
                scratch.run(statement)
        entries = scratch.rows("SELECT * FROM entry ORDER BY base, partition, at")
        lines = scratch.rows("SELECT * FROM line ORDER BY base, number")
        for _, of_books, of_target in in_step(entries, lines):
            if self._is_interrupted:
                raise AuditError("interrupted")
            ordered = judge_key(map(self._entry, of_books), map(_line, of_target), result, terms)
            for entry, one in ordered if is_ordered else ():
                if entry.key is not None:
                    row = (one.position.partition, entry.key, one.number, one.position.offset, _bytes(one.key))
                    scratch.add("INSERT INTO applied VALUES (?, ?, ?, ?, ?)", row)
        in_order = scratch.rows("SELECT * FROM applied ORDER BY partition, key, number")
        for _, lane in groupby(in_order, key=lambda row: row[:2]):
            judge_order(self._applied(lane), result)
        return result

    def _entry(self, row: Row) -> BookEntry:
        _, name, partition, at, key, outcome, code, _, timestamp_ms, deadline_ms = row
        place = Position(self._topic, partition, at)
        return BookEntry(place, _text(name), key, Outcome(outcome), code, None, timestamp_ms, deadline_ms)

    def _applied(self, rows: Iterable[Row]) -> Iterator[Applied]:
        for partition, _, number, at, name in rows:
            yield Applied(Position(self._topic, partition, at), number, _text(name))


def _line(row: Row) -> TargetLine:
    _, number, name, kind, attempt, crashes, replay_id, topic, partition, at, at_ms, result_id, _ = row
    origin = None if topic is None else Position(topic, partition, at)
    told = None if result_id is None else _text(result_id)
    return TargetLine(number, _text(name), kind, attempt, crashes, replay_id, origin, at_ms, told)


def _small(number: int) -> int:
    """A count that a list made up may be larger than a row can hold."""
    return max(-_LARGEST, min(number, _LARGEST))


def _bytes(text: str) -> bytes:
    """Keys are compared as bytes; JSON may hold half of a surrogate pair, which is no UTF-8."""
    return text.encode(errors="surrogatepass")


def _text(stored: bytes) -> str:
    return stored.decode(errors="surrogatepass")
