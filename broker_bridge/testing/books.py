"""What the history checker knows: records and what became of them, claims, who holds what. Rules about the log itself
(I3, I4, I14) are kept here; those about claims, handlers and the end are in ``testing.invariants``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import NamedTuple

from broker_bridge import headers as h
from broker_bridge.core.identity import claim_key, payload_fingerprint
from broker_bridge.message import Position, Record, TopicPartition
from broker_bridge.testing.history import AcknowledgementLost, Committed, Started, Written
from broker_bridge.testing.version_rules import VersionOf, VersionRules


class Terms(NamedTuple):
    """The route that the history is of. ``lanes`` are the retry lanes.

    ``ordered``: order is kept by key. ``holds``: a dead letter holds its key. ``guarded``: nothing runs without the
    store. ``true_clocks``: no worker's wall clock was moved, so that due times mean something. ``limited``: dead
    letters may stop a worker; what would have died is tried once more by the next. ``remembers``: without the store a
    worker knows what it did itself. ``version_of``: the version that a source record carries, where replays must not
    go behind what was completed.
    """

    topic: str
    lanes: tuple[str, ...]
    redrive: str
    dead_letter: str
    max_attempts: int
    in_place: int
    output: str | None = None
    ordered: bool = True
    holds: bool = False
    guarded: bool = True
    true_clocks: bool = True
    limited: bool = False
    remembers: bool = False
    version_of: VersionOf | None = None


class Item(NamedTuple):
    """One payload under one idempotency key: the same key with another payload is another item."""

    key: bytes
    fingerprint: bytes


class Copy(NamedTuple):
    """A record in a lane."""

    position: Position
    attempt: int
    due_ms: int


class Books:
    """What is known at one moment of a history. ``found`` is what it breaks so far, ``suspect`` the key it broke
    first with; ``repeats`` counts effects beyond the first by window."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.now_ms = 0
        self.found: list[str] = []
        self.suspect: bytes | None = None
        self.repeats: Counter[str] = Counter()
        self.item_at: dict[Position, Item] = {}
        self.source: dict[Position, Record] = {}
        self.first: dict[Item, Record] = {}
        self.copies: dict[Item, list[Copy]] = defaultdict(list)
        self.markers: set[Position] = set()
        self.letters: dict[Item, int] = {}  # → when the latest of its dead letters was written, as a count of records
        self.replays: dict[Item, list[int]] = defaultdict(list)
        self.outputs: dict[str, list[Record]] = defaultdict(list)
        self.unknown_outputs: Counter[str] = Counter()
        self.records = 0
        self.committed: dict[TopicPartition, int] = {}
        self.judged: dict[TopicPartition, int] = {}
        self.completed: set[Item] = set()
        self.versions = VersionRules(terms.version_of)
        self.stale: set[Item] = set()
        self.completed_by: dict[bytes, int] = {}
        self.furthest: dict[tuple[int, bytes], int] = {}
        self.holding: dict[tuple[int, bytes], dict[int, Item]] = defaultdict(dict)
        self.crashes: Counter[bytes] = Counter()
        self.takeovers: Counter[bytes] = Counter()
        self.replay_of: dict[bytes, bytes] = {}
        self.claimed: dict[tuple[bytes, int], tuple[bytes, int]] = {}  # → fingerprint, losses of the key so far
        self.latest_token: dict[bytes, int] = {}
        self.life_of: dict[bytes, Item] = {}
        self.lease_end_ms: dict[tuple[bytes, int], int] = {}
        self.live_attempt: dict[bytes, int] = {}
        self.lost: Counter[bytes] = Counter()
        self.unguarded: Counter[bytes] = Counter()
        self.silent: set[str] = set()
        self.dead_workers: set[str] = set()
        self.running: dict[bytes, list[Started]] = defaultdict(list)
        self.spent: Counter[Item] = Counter()
        self.allowed: Counter[Item] = Counter()
        self.tried_by: dict[Item, set[str]] = defaultdict(set)
        self.effects: dict[Item, list[tuple[str, int]]] = defaultdict(list)  # → worker, losses when claimed
        self.store_failed = False
        self.held: dict[str, frozenset[TopicPartition]] = defaultdict(frozenset)

    def object(self, invariant: str, text: str, key: bytes | None) -> None:
        """The history breaks an invariant."""
        if not self.found:
            self.suspect = key
        self.found.append(f"{invariant} at {self.now_ms}: {text}")

    def name(self, item: Item) -> str:
        """An item's first record, as a reader of the report knows it."""
        record = self.first.get(item)
        return f"{record.position} ({h.text_of(record.headers, h.CE_ID)})" if record else item.key.hex()

    # -- the log

    def written(self, event: Written) -> None:
        record, terms = event.record, self.terms
        self.records += 1
        if record.topic == terms.output:
            self.outputs[h.text_of(record.headers, h.CAUSATION_ID) or ""].append(record)
            return
        if record.topic not in (terms.topic, terms.redrive, terms.dead_letter, *terms.lanes):
            return
        identity = h.identify(record, trusted=record.topic != terms.topic)
        key = claim_key(identity.idempotency_key, namespace=terms.topic)
        item = self.item_at[record.position] = Item(key, payload_fingerprint(record.value))
        if record.topic == terms.topic:
            self.source[record.position] = record
            self.first.setdefault(item, record)
        elif record.topic == terms.dead_letter:
            self._dead(record, item, identity.origin)
        elif h.text_of(record.headers, h.HELD) == "1":
            self.markers.add(record.position)
        else:
            attempt, due_ms = h.int_of(record.headers, h.ATTEMPT, 0), h.int_of(record.headers, h.DUE_MS, 0)
            self.copies[item].append(Copy(record.position, attempt, due_ms))
            if record.topic == terms.redrive:
                self.replays[item].append(self.records)

    def _dead(self, letter: Record, item: Item, origin: Position) -> None:
        self.letters[item] = self.records
        source = self.source.get(origin)
        if source is None:
            self.object("I14", f"dead letter {letter.position} names no record of the source", item.key)
            return
        kept = (letter.key, letter.value, letter.timestamp_ms, h.without_bridge(letter.headers))
        if kept != (source.key, source.value, source.timestamp_ms, h.without_bridge(source.headers)):
            self.object("I14", f"dead letter {letter.position} differs from {source.position}", item.key)
        is_conflict = h.text_of(letter.headers, h.ERROR_CODE) == "key_conflict"
        if self.terms.holds and letter.key is not None and not is_conflict and not self.effects[item]:
            self.holding[origin.partition, letter.key][origin.offset] = item

    def acknowledgement_lost(self, event: AcknowledgementLost) -> None:
        if event.position.topic == self.terms.output:
            for cause, written in self.outputs.items():
                self.unknown_outputs[cause] += any(one.position == event.position for one in written)

    def commits(self, event: Committed) -> None:
        for tp, offset in event.offsets.items():
            start = self.committed.get(tp, 0)
            if offset < start:
                self.object("I4", f"{event.worker} moved {tp} from {start} back to {offset}", None)
            self.committed[tp] = offset
        for tp, offset in event.offsets.items():
            start = self.judged.get(tp, 0)
            for at in range(start, offset):
                self._is_settled(Position(*tp, at), event.worker)
            self.judged[tp] = max(start, offset)

    def _is_settled(self, position: Position, worker: str) -> None:
        item = self.item_at.get(position)
        if item is None or position in self.markers or item in self.letters or self.is_done(item):
            return
        cover = [copy.position for copy in self.copies[item]]
        if self.takeovers[item.key]:  # another record of the event has taken the claim over and answers for both
            cover += [at for at, other in self.item_at.items() if other == item and at.topic == self.terms.topic]
        if not any(at != position and self._is_pending(at) for at in cover):
            self.object(
                "I3", f"{worker} committed past {position} of {self.name(item)}, which is not settled", item.key
            )

    def is_done(self, item: Item) -> bool:
        """Completed; or had its effect, and the store was not there to be told of it, or has lost the claim."""
        return item in self.completed or bool(self.effects[item] and (not self.terms.guarded or self.lost[item.key]))

    def _is_pending(self, position: Position) -> bool:
        return position.offset >= self.committed.get(TopicPartition(position.topic, position.partition), 0)
