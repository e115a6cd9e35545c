"""The audit: reads a route's source topic whole and accounts for every record in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from broker_bridge import headers as h
from broker_bridge.core.audit import (
    Books,
    Doubt,
    Evidence,
    InDoubt,
    Letter,
    Outcome,
    OutputTally,
    Ruling,
    first_look,
    second_look,
)
from broker_bridge.core.dead_letter import read_dead_letter
from broker_bridge.core.identity import claim_key
from broker_bridge.core.reconcile import BookEntry
from broker_bridge.core.replay_plan import key_hash
from broker_bridge.errors import AuditError, NotFoundError, OffsetOutOfRangeError, UsageError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.message import Position, Record, TopicPartition
from broker_bridge.replay.claims import with_claims
from broker_bridge.replay.route import ReplayRoute
from broker_bridge.transport.base import LogReader

Offsets = dict[TopicPartition, int]
FETCH = 500


class Looked(NamedTuple):
    """What the audit keeps of a record: not its value."""

    position: Position
    claim_key: bytes
    idempotency_key: str
    key: bytes | None
    event_id: str | None


class AuditRange(NamedTuple):
    """Which records are audited; None means no bound. Offsets need ``partition``; times are of the records, ms since
    the epoch; ``from`` inclusive, ``to`` exclusive."""

    partition: int | None = None
    from_offset: int | None = None
    to_offset: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None


EVERYTHING = AuditRange()


@dataclass(slots=True)
class AuditReport:
    """The books of one route over ``start`` ≤ offset < ``end``, and the results where they were asked for.

    ``not_in_log`` counts offsets below the first one in the log: what retention removed cannot be audited.
    """

    route: str
    group: str
    topic: str
    start: Offsets
    end: Offsets
    books: Books
    outputs: OutputTally | None = None
    not_in_log: int = 0

    def covers(self, position: Position) -> bool:
        """Whether a source record was in the audited range."""
        tp = TopicPartition(position.topic, position.partition)
        return tp in self.start and self.start[tp] <= position.offset < self.end[tp]


@dataclass(slots=True)
class _Findings:
    """What the first pass leaves behind."""

    books: Books
    outputs: OutputTally | None
    in_doubt: list[tuple[InDoubt, Looked]] = field(default_factory=list)


class Auditor:
    """Audits one route. ``reader`` and ``store`` are started by the caller."""

    def __init__(self, *, reader: LogReader, store: IdempotencyStore, route: ReplayRoute) -> None:
        self._reader = reader
        self._store = store
        self._route = route

    async def audit(
        self,
        wanted: AuditRange = EVERYTHING,
        *,
        outputs: bool = False,
        on_entry: Callable[[BookEntry], None] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> AuditReport:
        """Account for every record. ``on_entry`` is called for each, in no particular order; ``progress`` with
        (records read, records in the range). Raises ``UsageError`` where ``outputs`` is asked of a route without,
        ``AuditError`` where the log changed while it was read.
        """
        if outputs and self._route.output_topic is None:
            raise UsageError("the route has no [route.output], so no results to look at", where=self._route.name)
        start, end, not_in_log = await self._range(wanted)
        committed = _known(await self._reader.group_offsets(self._route.group, [self._route.topic]))
        lanes = [*self._route.retry_topics, self._route.redrive_topic]
        lanes_committed = _known(await self._reader.group_offsets(self._route.group, lanes))

        found = _Findings(Books(), OutputTally() if outputs else None)
        try:
            await self._first_pass(start, end, committed, found, on_entry, progress)
        except OffsetOutOfRangeError as error:
            raise AuditError(
                f"retention removed records while they were read: {error.detail}",
                where=error.where,
                remedy="run the audit again, or audit from a later offset",
            ) from error
        evidence = await self._evidence(found.in_doubt, lanes, lanes_committed)
        for case, looked in found.in_doubt:
            ruling = second_look(
                case, evidence, group=self._route.group, dead_letter_topic=self._route.dead_letter_topic
            )
            _enter(found, looked, ruling, on_entry)
        await self._read_outputs(found.outputs)
        route = self._route
        return AuditReport(route.name, route.group, route.topic, start, end, found.books, found.outputs, not_in_log)

    async def _range(self, wanted: AuditRange) -> tuple[Offsets, Offsets, int]:
        topics = [self._route.topic]
        bounds = {
            tp: b for tp, b in (await self._reader.offsets(topics)).items() if wanted.partition in (None, tp.partition)
        }
        if not bounds:
            raise NotFoundError(f"there is no partition {wanted.partition}", where=self._route.topic)
        since = await self._at(wanted.since_ms)
        until = await self._at(wanted.until_ms)
        start = {tp: max(first, wanted.from_offset or 0, since.get(tp, 0)) for tp, (first, _) in bounds.items()}
        end: Offsets = {}
        for tp, (_, after) in bounds.items():
            last = after if wanted.to_offset is None else wanted.to_offset
            end[tp] = max(start[tp], min(after, last, until.get(tp, after)))
        is_open = wanted.from_offset is None and wanted.since_ms is None
        return start, end, sum(first for first, _ in bounds.values()) if is_open else 0

    async def _at(self, timestamp_ms: int | None) -> Offsets:
        if timestamp_ms is None:
            return {}
        return await self._reader.offsets_at([self._route.topic], timestamp_ms=timestamp_ms)

    async def _first_pass(
        self,
        start: Offsets,
        end: Offsets,
        committed: Offsets,
        found: _Findings,
        on_entry: Callable[[BookEntry], None] | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        total, done = sum(end[tp] - start[tp] for tp in start), 0
        looked_up = with_claims(
            self._records(start, end),
            key_of=lambda looked: looked.claim_key,
            store=self._store,
            group=self._route.group,
        )
        async for batch in looked_up:
            for looked, claim in batch:
                found.books.count_produced(looked.position.partition)
                tp = TopicPartition(looked.position.topic, looked.position.partition)
                ruling = first_look(looked.position, claim, committed=committed.get(tp, 0))
                if isinstance(ruling, InDoubt):
                    found.in_doubt.append((ruling, looked))
                else:
                    _enter(found, looked, Ruling(ruling), on_entry)
            done += len(batch)
            if progress is not None:
                progress(done, total)

    async def _records(self, start: Offsets, end: Offsets) -> AsyncIterator[Sequence[Looked]]:
        async for records in self._reader.read(start, end):
            yield [self._look(record) for record in records]

    def _look(self, record: Record) -> Looked:
        identity = h.identify(record, trusted=False)
        return Looked(
            position=record.position,
            claim_key=claim_key(identity.idempotency_key, namespace=self._route.topic),
            idempotency_key=identity.idempotency_key,
            key=record.key,
            event_id=h.text_of(record.headers, h.CE_ID),
        )

    # -- evidence

    async def _evidence(
        self, in_doubt: list[tuple[InDoubt, Looked]], lanes: Sequence[str], lanes_committed: Offsets
    ) -> Evidence:
        wanted = {case.position for case, _ in in_doubt}
        if not wanted:
            return Evidence({}, (), ())
        return Evidence(
            letters=await self._find_letters(wanted),
            copies=await self._find_copies(wanted, lanes, lanes_committed),
            originals=await self._find_originals(in_doubt),
        )

    async def _find_letters(self, wanted: set[Position]) -> dict[Position, list[Letter]]:
        letters: dict[Position, list[Letter]] = {}
        async for record in self._all_of([self._route.dead_letter_topic], {}):
            letter = read_dead_letter(record)
            if letter.origin in wanted:
                place = (record.partition, record.offset)
                letters.setdefault(letter.origin, []).append(Letter(place, letter.failure.code))
        return letters

    async def _find_copies(self, wanted: set[Position], lanes: Sequence[str], committed: Offsets) -> set[Position]:
        copies: set[Position] = set()
        async for record in self._all_of(lanes, committed):
            origin = h.identify(record, trusted=True).origin
            if origin in wanted:
                copies.add(origin)
        return copies

    async def _find_originals(self, in_doubt: list[tuple[InDoubt, Looked]]) -> set[Position]:
        expected = {
            case.original: looked.claim_key
            for case, looked in in_doubt
            if case.doubt is Doubt.OTHER_ORIGIN and case.original is not None
        }
        bounds = await self._reader.offsets([self._route.topic])
        existing: set[Position] = set()
        to_fetch: list[Position] = []
        for position in expected:
            first, after = bounds.get(TopicPartition(position.topic, position.partition), (0, 0))
            if position.offset < first:
                existing.add(position)  # it was there; retention removed it
            elif position.offset < after:
                to_fetch.append(position)
        to_fetch.sort()
        for index in range(0, len(to_fetch), FETCH):
            chunk = to_fetch[index : index + FETCH]
            for position, record in zip(chunk, await self._reader.fetch(chunk), strict=True):
                if record is not None and self._look(record).claim_key == expected[position]:
                    existing.add(position)
        return existing

    async def _read_outputs(self, tally: OutputTally | None) -> None:
        if tally is None or self._route.output_topic is None:
            return
        async for record in self._all_of([self._route.output_topic], {}):
            tally.see(h.text_of(record.headers, h.CE_ID))

    async def _all_of(self, topics: Sequence[str], start: Mapping[TopicPartition, int]) -> AsyncIterator[Record]:
        """Every record of these topics from ``start`` (default: the first) to the end as it is now."""
        bounds = await self._reader.offsets(topics)
        begin = {tp: max(first, start.get(tp, 0)) for tp, (first, _) in bounds.items()}
        async for records in self._reader.read(begin, {tp: after for tp, (_, after) in bounds.items()}):
            for record in records:
                yield record


def _enter(found: _Findings, looked: Looked, ruling: Ruling, on_entry: Callable[[BookEntry], None] | None) -> None:
    found.books.enter(looked.position, ruling, key_hash=key_hash(looked.key))
    if found.outputs is not None and ruling.outcome is Outcome.COMPLETED:
        found.outputs.expect(looked.event_id, looked.position)
    if on_entry is not None:
        on_entry(BookEntry(looked.position, looked.idempotency_key, looked.key, ruling.outcome, ruling.code))


def _known(offsets: Mapping[TopicPartition, int | None]) -> Offsets:
    return {tp: offset for tp, offset in offsets.items() if offset is not None}
