"""The records that the first look leaves in doubt, on disk, and the evidence that is found for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from broker_bridge import headers as h
from broker_bridge.core.audit import Doubt, Evidence, InDoubt, Letter, Waiting
from broker_bridge.core.claim import ClaimState
from broker_bridge.core.identity import claim_key
from broker_bridge.message import Position, Record, TopicPartition
from broker_bridge.replay.route import ReplayRoute
from broker_bridge.replay.scratch import Row, Scratch
from broker_bridge.transport.base import LogReader

FETCH = 100
FEW = 2_000
"""So many originals are fetched one by one; for more the topic is read again."""

_TABLES = """
CREATE TABLE doubt (
    partition INTEGER, at INTEGER, claim_key BLOB, kind INTEGER, state INTEGER, place_partition INTEGER,
    place_at INTEGER, original_partition INTEGER, original_at INTEGER, idempotency_key TEXT, key BLOB, event_id TEXT,
    timestamp_ms INTEGER, deadline_ms INTEGER, waiting INTEGER DEFAULT 0, has_original INTEGER DEFAULT 0,
    PRIMARY KEY (partition, at)) WITHOUT ROWID;
CREATE TABLE letter (
    partition INTEGER, at INTEGER, place_partition INTEGER, place_at INTEGER, code TEXT,
    PRIMARY KEY (partition, at, place_partition, place_at)) WITHOUT ROWID;
"""
_ADD = "INSERT INTO doubt VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0)"
_LETTER = """
INSERT OR IGNORE INTO letter
SELECT partition, at, ?, ?, ? FROM doubt WHERE partition = ? AND at = ? AND claim_key = ?"""
_COPY = "UPDATE doubt SET waiting = max(waiting, ?) WHERE partition = ? AND at = ? AND claim_key = ?"
_ORIGINAL = (
    "UPDATE doubt SET has_original = 1 WHERE original_partition = ? AND original_at = ? AND claim_key = ? "
    "AND original_at IS NOT NULL"
)
_KINDS = tuple(Doubt)


class Looked(NamedTuple):
    """What the audit keeps of a record: not its value."""

    position: Position
    claim_key: bytes
    idempotency_key: str
    key: bytes | None
    event_id: str | None
    timestamp_ms: int
    deadline_ms: int | None


def look(record: Record, *, topic: str, trusted: bool = False) -> Looked:
    """The record's identity under the claims of source topic ``topic``; ``trusted`` where the group itself wrote it,
    and its position is then the origin's."""
    named = dict(record.headers)
    key, origin = h.identify(record, named, trusted=trusted)
    return Looked(
        position=origin,
        claim_key=claim_key(key, namespace=topic),
        idempotency_key=key,
        key=record.key,
        event_id=h.text_in(named, h.CE_ID),
        timestamp_ms=record.timestamp_ms,
        deadline_ms=h.int_in(named, h.DEADLINE, 0) or None,
    )


class Doubts:
    """Collected first (``add``), then evidence is looked for (``find``), then each is told with it (``cases``)."""

    def __init__(self, reader: LogReader, route: ReplayRoute) -> None:
        self._reader = reader
        self._route = route
        self._scratch = Scratch(_TABLES)
        self.count = 0

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        self._scratch.close()

    def add(self, case: InDoubt, looked: Looked) -> None:
        """One more record."""
        self.count += 1
        _, claim, *rest = looked
        place, original = case.place or (None, None), case.original[1:] if case.original else (None, None)
        kind = _KINDS.index(case.doubt)
        self._scratch.add(_ADD, (*case.position[1:], claim, kind, case.state, *place, *original, *rest))

    async def find(self, lanes: Sequence[str], lanes_committed: Mapping[TopicPartition, int]) -> None:
        """Look into dead letters, lanes and source. Only what has the record's own idempotency key is evidence: a
        forced replay has another."""
        if not self.count:
            return
        topic = self._route.topic
        async for record in all_of(self._reader, [self._route.dead_letter_topic], {}):
            letter = look(record, topic=topic, trusted=True)
            code = h.text_of(record.headers, h.ERROR_CODE) or "unknown"
            self._mark(_LETTER, letter, record.partition, record.offset, code)
        async for record in all_of(self._reader, lanes, lanes_committed):
            named = dict(record.headers)
            if h.text_in(named, h.HELD) != "1":  # that one only keeps a key held: it is not tried
                waiting = Waiting.PARKED if h.text_in(named, h.PARKED) == "1" else Waiting.TRIED
                self._mark(_COPY, look(record, topic=topic, trusted=True), waiting)
        await self._find_originals()

    def cases(self) -> Iterator[tuple[InDoubt, Looked, Evidence]]:
        """Every record in doubt with what was found, by partition and offset."""
        joined = self._scratch.rows(
            "SELECT doubt.*, letter.place_partition, letter.place_at, letter.code FROM doubt "
            "LEFT JOIN letter USING (partition, at) ORDER BY doubt.partition, doubt.at, 17, 18"
        )
        for _, rows in groupby(joined, key=lambda row: row[:2]):
            first = next(rows)
            letters = [Letter((row[16], row[17]), row[18]) for row in (first, *rows) if row[16] is not None]
            yield self._case(first, letters)

    def _case(self, row: Row, letters: Sequence[Letter]) -> tuple[InDoubt, Looked, Evidence]:
        topic = self._route.topic
        partition, at, claim, kind, state, place_partition, place_at, original_partition, original_at, *kept = row[:14]
        position = Position(topic, partition, at)
        case = InDoubt(
            position,
            _KINDS[kind],
            None if state is None else ClaimState(state),
            None if place_partition is None else (place_partition, place_at),
            None if original_partition is None else Position(topic, original_partition, original_at),
        )
        return case, Looked(position, claim, *kept), Evidence(letters, Waiting(row[14]), bool(row[15]))

    def _mark(self, statement: str, looked: Looked, *values: object) -> None:
        topic, partition, offset = looked.position
        if topic == self._route.topic:
            self._scratch.add(statement, (*values, partition, offset, looked.claim_key))

    async def _find_originals(self) -> None:
        """Which of the records that hold the claim exist, under the same key."""
        scratch, topic = self._scratch, self._route.topic
        scratch.run("CREATE INDEX by_original ON doubt (original_partition, original_at) WHERE original_at IS NOT NULL")
        bounds = await self._reader.offsets([topic])
        for tp, (first, _) in bounds.items():
            # They were there; retention removed them.
            scratch.run(
                "UPDATE doubt SET has_original = 1 WHERE original_partition = ? AND original_at < ? "
                "AND original_at IS NOT NULL",
                (tp.partition, first),
            )
        wanted = "FROM doubt WHERE original_at IS NOT NULL AND NOT has_original"
        if scratch.count(f"SELECT count(*) {wanted}") > FEW:
            await self._read_originals(wanted, bounds)
            return
        places = list(scratch.rows(f"SELECT DISTINCT original_partition, original_at {wanted} ORDER BY 1, 2"))
        there = [
            Position(topic, partition, at)
            for partition, at in places
            if at < bounds.get(TopicPartition(topic, partition), (0, 0))[1]
        ]
        for index in range(0, len(there), FETCH):
            for record in await self._reader.fetch(there[index : index + FETCH]):
                if record is not None:
                    self._original(record)

    async def _read_originals(self, wanted: str, bounds: Mapping[TopicPartition, tuple[int, int]]) -> None:
        spans = self._scratch.rows(
            f"SELECT original_partition, min(original_at), max(original_at) {wanted} GROUP BY original_partition"
        )
        ranges = {TopicPartition(self._route.topic, partition): (low, high + 1) for partition, low, high in spans}
        ranges = {tp: (low, min(high, bounds[tp][1])) for tp, (low, high) in ranges.items() if tp in bounds}
        start, end = ({tp: span[which] for tp, span in ranges.items()} for which in (0, 1))
        async for records in self._reader.read(start, end):
            for record in records:
                self._original(record)

    def _original(self, record: Record) -> None:
        found = look(record, topic=self._route.topic)
        self._scratch.add(_ORIGINAL, (record.partition, record.offset, found.claim_key))


async def all_of(
    reader: LogReader, topics: Sequence[str], start: Mapping[TopicPartition, int]
) -> AsyncIterator[Record]:
    """Every record of these topics from ``start`` (default: the first) to the end as it is now."""
    bounds = await reader.offsets(topics)
    begin = {tp: max(first, start.get(tp, 0)) for tp, (first, _) in bounds.items()}
    async for records in reader.read(begin, {tp: after for tp, (_, after) in bounds.items()}):
        for record in records:
            yield record
