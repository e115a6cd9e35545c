"""What must hold of a ``History``, whatever went wrong in it. Numbers are those of the invariants in the docs.

The checker trusts nobody but the log, the store and the handler's own notes: it does not look into the engine.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from broker_bridge import headers as h
from broker_bridge.core.claim import SettleKind
from broker_bridge.core.identity import claim_key
from broker_bridge.message import Position, Record, TopicPartition
from broker_bridge.testing.history import (
    Assigned,
    Committed,
    Effect,
    Ended,
    Fault,
    Granted,
    History,
    Renewed,
    Revoked,
    Settled,
    Started,
    Written,
)


class Terms(NamedTuple):
    """The route that the history is of. ``lanes`` are the retry lanes and the redrive lane."""

    topic: str
    lanes: tuple[str, ...]
    dead_letter: str
    max_attempts: int
    in_place: int


class Copy(NamedTuple):
    """A record in a lane."""

    position: Position
    attempt: int
    due_ms: int


class _Books:
    """What is known at one moment of the history."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.now_ms = 0
        self.found: list[str] = []
        self.key_at: dict[Position, bytes] = {}
        self.source: dict[Position, Record] = {}
        self.first: dict[bytes, Record] = {}
        self.copies: dict[bytes, list[Copy]] = defaultdict(list)
        self.committed: dict[TopicPartition, int] = {}
        self.completed: dict[bytes, int] = {}
        self.dead: set[bytes] = set()
        self.furthest: dict[tuple[int, bytes | None], int] = {}
        self.crashes: dict[bytes, int] = defaultdict(int)
        self.lease_end_ms: dict[tuple[bytes, int], int] = {}
        self.live_attempt: dict[bytes, int] = {}
        self.running: dict[bytes, list[Started]] = defaultdict(list)
        self.spent: Counter[bytes] = Counter()
        self.effects: Counter[bytes] = Counter()
        self.store_failed = False
        self.held: dict[str, frozenset[TopicPartition]] = defaultdict(frozenset)

    def object(self, invariant: str, text: str) -> None:
        """The history breaks an invariant."""
        self.found.append(f"{invariant} at {self.now_ms}: {text}")

    def name(self, key: bytes) -> str:
        """A key's first record, as a reader of the report knows it."""
        record = self.first.get(key)
        return f"{record.position} ({h.text_of(record.headers, h.CE_ID)})" if record else key.hex()

    # -- the log

    def written(self, event: Written) -> None:
        record, terms = event.record, self.terms
        if record.topic not in (terms.topic, terms.dead_letter, *terms.lanes):
            return
        identity = h.identify(record, trusted=record.topic != terms.topic)
        key = self.key_at[record.position] = claim_key(identity.idempotency_key, namespace=terms.topic)
        if record.topic == terms.topic:
            self.source[record.position] = record
            self.first.setdefault(key, record)
        elif record.topic in terms.lanes:
            attempt, due_ms = h.int_of(record.headers, h.ATTEMPT, 0), h.int_of(record.headers, h.DUE_MS, 0)
            self.copies[key].append(Copy(record.position, attempt, due_ms))
        else:
            self.dead.add(key)
            self._is_whole(record, self.source.get(identity.origin))

    def _is_whole(self, letter: Record, source: Record | None) -> None:
        if source is None:
            self.object("I14", f"dead letter {letter.position} names no record of the source")
            return
        kept = (letter.key, letter.value, letter.timestamp_ms, h.without_bridge(letter.headers))
        if kept != (source.key, source.value, source.timestamp_ms, h.without_bridge(source.headers)):
            self.object("I14", f"dead letter {letter.position} differs from {source.position}")

    def commits(self, event: Committed) -> None:
        before = dict(self.committed)
        self.committed.update(event.offsets)
        for tp, offset in event.offsets.items():
            start = before.get(tp, 0)
            if offset < start:
                self.object("I4", f"{event.worker} moved {tp} from {start} back to {offset}")
            for at in range(start, offset):
                self._is_settled(Position(*tp, at), event.worker)

    def _is_settled(self, position: Position, worker: str) -> None:
        key = self.key_at.get(position)
        if key is None or key in self.completed or key in self.dead:
            return
        cover = [copy.position for copy in self.copies[key]]
        if self.crashes[key]:  # another record of the event has taken the claim over and answers for both
            cover += [at for at, other in self.key_at.items() if other == key and at.topic == self.terms.topic]
        if not any(at != position and self._is_pending(at) for at in cover):
            self.object("I3", f"{worker} committed past {position} of {self.name(key)}, which is not settled")

    def _is_pending(self, position: Position) -> bool:
        return position.offset >= self.committed.get(TopicPartition(position.topic, position.partition), 0)

    # -- the store

    def granted(self, event: Granted) -> None:
        self.crashes[event.key] = max(self.crashes[event.key], event.crashes)
        self.lease_end_ms[event.key, event.token] = event.lease_end_ms

    def renewed(self, event: Renewed) -> None:
        self.lease_end_ms[event.key, event.token] = event.lease_end_ms

    def settled(self, event: Settled) -> None:
        if event.kind is SettleKind.RETRY:
            self.live_attempt[event.key] = max((copy.attempt for copy in self.copies[event.key]), default=0)
        if event.kind is not SettleKind.COMPLETE:
            return
        token = self.completed.get(event.key)
        if token not in (None, event.token):
            self.object("I7", f"{self.name(event.key)} was completed twice")
        if token is not None:
            return  # or a repetition: the answer was lost
        self.completed[event.key] = event.token
        if event.key in self.first and event.key not in self.dead:
            self._is_in_order(self.first[event.key])

    def _is_in_order(self, record: Record) -> None:
        lane = (record.partition, record.key)
        furthest = self.furthest.get(lane, -1)
        if record.key is not None and record.offset < furthest:
            self.object("I12", f"{record.position} was completed after offset {furthest} of its key")
        self.furthest[lane] = max(furthest, record.offset)

    # -- the handler

    def started(self, event: Started) -> None:
        name = self.name(event.key)
        if TopicPartition(self.terms.topic, event.origin.partition) not in self.held[event.worker]:
            self.object("I20", f"{event.worker} started {name} without holding its partition")
        for other in self.running[event.key]:
            if self.now_ms < self.lease_end_ms.get((event.key, other.token), 0) or event.token <= other.token:
                self.object("I8", f"{event.worker} and {other.worker} execute {name} at once")
        self.running[event.key].append(event)
        if event.key in self.live_attempt and event.key not in self.dead:
            self._is_due(event, self.live_attempt[event.key])

    def _is_due(self, event: Started, live_attempt: int) -> None:
        """Older copies are superseded once the claim is handed to a newer one, so none starts before that is due."""
        due_ms = min((copy.due_ms for copy in self.copies[event.key] if copy.attempt == live_attempt), default=0)
        if self.now_ms < due_ms:
            self.object("I22", f"{self.name(event.key)} started {due_ms - self.now_ms} ms before it was due")

    def ended(self, event: Ended) -> None:
        running = self.running[event.key]
        running[:] = [one for one in running if (one.worker, one.token) != (event.worker, event.token)]
        self.spent[event.key] += event.spent
        forgotten = self.crashes[event.key] * (self.terms.in_place if self.store_failed else 1)
        if self.spent[event.key] > self.terms.max_attempts + forgotten:
            self.object("I15", f"{self.name(event.key)} was tried {self.spent[event.key]} times")

    def effect(self, event: Effect) -> None:
        self.effects[event.key] += 1
        if event.key not in self.first:
            self.object("I2", f"an effect of {event.key.hex()}, which nobody produced")
        if self.effects[event.key] - 1 > self.crashes[event.key]:
            self.object("I9", f"{self.name(event.key)} had {self.effects[event.key]} effects")

    # -- the group

    def assigned(self, event: Assigned) -> None:
        self.held[event.worker] = event.partitions

    def revoked(self, event: Revoked) -> None:
        self.held[event.worker] -= event.partitions

    def fault(self, event: Fault) -> None:
        """Attempts in place that the store could not be told of are forgotten in a crash: more of them than one."""
        self.store_failed |= event.what.startswith("store")

    # -- the end

    def close(self) -> None:
        """All is quiet now."""
        for key in self.first:
            if key not in self.completed and key not in self.dead:
                self.object("I1", f"{self.name(key)} is neither completed nor dead")
            if key in self.completed and not self.effects[key]:
                self.object("I1", f"{self.name(key)} was completed without its effect")
            if key in self.completed and key in self.dead and not self.crashes[key]:
                self.object("I23", f"{self.name(key)} is completed and dead")
            if key in self.effects and key not in self.completed and not self.crashes[key]:
                self.object("I23", f"{self.name(key)} had its effect and is not completed")


_JUDGED_BY: dict[type, Callable[[_Books, Any], None]] = {
    Written: _Books.written,
    Committed: _Books.commits,
    Granted: _Books.granted,
    Renewed: _Books.renewed,
    Settled: _Books.settled,
    Started: _Books.started,
    Ended: _Books.ended,
    Effect: _Books.effect,
    Assigned: _Books.assigned,
    Revoked: _Books.revoked,
    Fault: _Books.fault,
}


def violations(history: History, terms: Terms) -> list[str]:
    """What the history breaks, in the order it happened; empty where it keeps everything.

    The history must end in quiet: everything healed, every record read and committed.
    """
    books = _Books(terms)
    for at_ms, event in history:
        books.now_ms = at_ms
        judge = _JUDGED_BY.get(type(event))
        if judge is not None:
            judge(books, event)
    books.close()
    return books.found
