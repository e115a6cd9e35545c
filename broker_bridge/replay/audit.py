"""The audit: reads a route's source topic whole and accounts for every record in it, in memory that does not grow with
it: counts are kept, and what needs a second look waits on disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

from broker_bridge.clock import Clock, SystemClock
from broker_bridge.core.audit import (
    Books,
    InDoubt,
    Outcome,
    OutputTally,
    Ruling,
    first_look,
    forgotten_after_ms,
    second_look,
)
from broker_bridge.core.reconcile import BookEntry
from broker_bridge.core.replay_plan import key_hash
from broker_bridge.errors import AuditError, NotFoundError, OffsetOutOfRangeError, UsageError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.message import Position, TopicPartition
from broker_bridge.replay.audit_doubts import Doubts, Looked, look
from broker_bridge.replay.audit_results import Results
from broker_bridge.replay.claims import with_claims
from broker_bridge.replay.route import ReplayRoute
from broker_bridge.transport.base import LogReader

Offsets = dict[TopicPartition, int]
OnEntry = Callable[[BookEntry], None]
Progress = Callable[[int, int], None]
AT_ONCE = 500
"""Rulings made before others get a turn."""


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

    ``not_in_log`` counts offsets below the first one in the log: what retention removed cannot be audited. ``is_whole``
    where the range has every record that there ever was before ``end``. ``forgotten_after_ms``: older records may be
    forgotten.
    """

    route: str
    group: str
    topic: str
    start: Offsets
    end: Offsets
    books: Books
    outputs: OutputTally | None = None
    not_in_log: int = 0
    is_whole: bool = True
    forgotten_after_ms: int = 0

    def covers(self, position: Position) -> bool:
        """Whether a source record was in the audited range."""
        tp = TopicPartition(position.topic, position.partition)
        return tp in self.start and self.start[tp] <= position.offset < self.end[tp]


class _Findings(NamedTuple):
    """What the first pass fills."""

    books: Books
    doubts: Doubts
    results: Results | None
    on_entry: OnEntry | None

    def enter(self, looked: Looked, ruling: Ruling) -> None:
        """Put one record under its heading, everywhere."""
        position, outcome = looked.position, ruling.outcome
        self.books.enter(position, ruling, key_hash=key_hash(looked.key) if outcome is Outcome.UNACCOUNTED else "")
        if self.results is not None and outcome is Outcome.COMPLETED:
            self.results.expect(looked.event_id, position)
        if self.on_entry is not None:
            self.on_entry(_entry(looked, outcome, ruling.code))


class Auditor:
    """Audits one route. ``reader`` and ``store`` are started by the caller."""

    def __init__(
        self, *, reader: LogReader, store: IdempotencyStore, route: ReplayRoute, clock: Clock | None = None
    ) -> None:
        self._reader = reader
        self._store = store
        self._route = route
        self._clock = clock or SystemClock()

    async def audit(
        self,
        wanted: AuditRange = EVERYTHING,
        *,
        outputs: bool = False,
        on_entry: OnEntry | None = None,
        progress: Progress | None = None,
    ) -> AuditReport:
        """Account for every record. ``on_entry`` is called for each, in no particular order; ``progress`` with
        (records read, records in the range). Raises ``UsageError`` where ``outputs`` is asked of a route without,
        ``AuditError`` where the log changed while it was read, or the temporary file found no room.
        """
        route = self._route
        if outputs and route.output_topic is None:
            raise UsageError("the route has no [route.output], so no results to look at", where=route.name)
        start, end, not_in_log = await self._range(wanted)
        is_whole = wanted == EVERYTHING and not not_in_log
        report = AuditReport(route.name, route.group, route.topic, start, end, Books(), None, not_in_log, is_whole)
        report.forgotten_after_ms = forgotten_after_ms(route.claim_ttl_ms)
        doubts, results = Doubts(self._reader, route), Results(route.topic) if outputs else None
        with closing(doubts), closing(results or doubts):
            await self._fill(report, _Findings(report.books, doubts, results, on_entry), progress)
            if results is not None and route.output_topic is not None:
                report.outputs = await results.tally(self._reader, route.output_topic)
        return report

    async def newer(self, report: AuditReport) -> AsyncIterator[BookEntry]:
        """The records written since the end of a report's range, as pending: a list that was read after the books may
        know of them."""
        bounds = await self._reader.offsets([self._route.topic])
        ends = {tp: after for tp, (_, after) in bounds.items() if tp in report.end}
        start = {tp: report.end[tp] for tp in ends}
        async for looked in self._records(start, ends):
            for one in looked:
                yield _entry(one, Outcome.PENDING)

    async def _fill(self, report: AuditReport, found: _Findings, progress: Progress | None) -> None:
        """The order of these steps is what makes it right beside running workers (``core.audit``)."""
        route = self._route
        committed = _known(await self._reader.group_offsets(route.group, [route.topic]))
        lanes = [*route.retry_topics, route.redrive_topic]
        lanes_committed = _known(await self._reader.group_offsets(route.group, lanes))
        try:
            await self._first_pass(report.start, report.end, committed, found, progress)
            await found.doubts.find(lanes, lanes_committed)
        except OffsetOutOfRangeError as error:
            raise AuditError(
                f"retention removed records while they were read: {error.detail}",
                where=error.where,
                remedy="run the audit again, or audit from a later offset",
            ) from error
        old_ms = self._clock.now_ms() - report.forgotten_after_ms
        for number, (case, looked, evidence) in enumerate(found.doubts.cases()):
            is_old = looked.timestamp_ms <= old_ms
            ruling = second_look(case, evidence, dead_letter_topic=route.dead_letter_topic, may_be_forgotten=is_old)
            found.enter(looked, ruling)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)

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
        self, start: Offsets, end: Offsets, committed: Offsets, found: _Findings, progress: Progress | None
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
                    found.doubts.add(ruling, looked)
                else:
                    found.enter(looked, Ruling(ruling))
            done += len(batch)
            if progress is not None:
                progress(done, total)

    async def _records(self, start: Offsets, end: Offsets) -> AsyncIterator[Sequence[Looked]]:
        async for records in self._reader.read(start, end):
            yield [look(record, topic=self._route.topic) for record in records]


def _entry(looked: Looked, outcome: Outcome, code: str = "") -> BookEntry:
    return BookEntry(
        looked.position,
        looked.idempotency_key,
        looked.key,
        outcome,
        code,
        looked.event_id,
        looked.timestamp_ms,
        looked.deadline_ms,
    )


def _known(offsets: Mapping[TopicPartition, int | None]) -> Offsets:
    return {tp: offset for tp, offset in offsets.items() if offset is not None}
