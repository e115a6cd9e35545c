"""Bringing exported dead letters back into the group's own dead-letter topic, each byte for byte and never twice.

The topic itself says what is there: it is read before anything is sent, and a letter of which every byte is there
already is not sent again. So an import that was stopped or killed is given again as it was. One import into a topic
goes on at a time (a lease in the claim store): two at once would each find the other's letters missing.

What an import does to claims, and why, is told in ``core.letter_import``. It is done for letters that were there
already as well: an import may be killed between the letter and its claim.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from broker_bridge import headers as h
from broker_bridge.clock import Clock
from broker_bridge.core.claim import (
    ClaimView,
    SettleKind,
    SettleStatus,
    pack_place,
    unpack_place,
)
from broker_bridge.core.dead_letter import DeadLetter, read_dead_letter
from broker_bridge.core.foreign_letters import writer_of
from broker_bridge.core.identity import claim_key
from broker_bridge.core.letter_import import FoundLetters, is_newer, letter_digest, may_be_moved
from broker_bridge.core.operator_claim import Hand, left_by, operator_tag
from broker_bridge.errors import ImportRefusedError, PlanRefusedError, TransportError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.message import OutgoingRecord, Position, Record, TopicPartition
from broker_bridge.replay.export import ExportedFile
from broker_bridge.replay.operator_claims import LetterClaim, claim_letters
from broker_bridge.replay.route import ReplayRoute
from broker_bridge.replay.run_lease import RunLease
from broker_bridge.transport.base import BatchProducer, LogReader

BATCH: Final = 500


@dataclass(slots=True)
class ImportReport:
    """How far an import is. ``letters`` are those of the file. ``moved`` counts claims that now name a letter of it,
    ``claim_expired`` letters without a claim: to replay them needs ``--allow-expired``."""

    import_id: str
    letters: int
    looked_at: int = 0
    imported: int = 0
    already_there: int = 0
    moved: int = 0
    claim_expired: int = 0
    was_stopped: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """The counts by name, for the record of the operation."""
        names = ("letters", "imported", "already_there", "moved", "claim_expired")
        return {name: getattr(self, name) for name in names}


WriteDown = Callable[[str, Mapping[str, int]], Awaitable[None]]
"""``await record(phase, counts)``: write an operation down, acknowledged. ``phase`` is ``begun`` or ``ended``."""
Progress = Callable[[ImportReport], None]


def check_file(file: ExportedFile, route: ReplayRoute, *, from_group: str | None) -> None:
    """Raises ``ImportRefusedError`` where the file's letters are not this route's. ``from_group`` names another group
    whose letters are wanted; the source topic must be the same in any case."""
    header = file.header
    if header.topic != route.topic:
        raise ImportRefusedError(
            f"its letters are of source topic {header.topic!r}, route {route.name!r} reads {route.topic!r}",
            where=str(file.path),
            remedy="name the route that reads that topic, with --route",
        )
    if header.group != (from_group or route.group):
        raise ImportRefusedError(
            f"its letters are of group {header.group!r}, "
            + (f"--from-group names {from_group!r}" if from_group else f"route {route.name!r} has {route.group!r}"),
            where=str(file.path),
            remedy=f"to bring them to group {route.group!r} all the same: --from-group {header.group}",
        )


class Importer:
    """Imports into the dead-letter topic of one route. ``reader``, ``store`` and (for ``run``) ``producer`` are started
    by the caller. ``import_id`` names this import in what is recorded."""

    def __init__(
        self,
        *,
        reader: LogReader,
        producer: BatchProducer,
        store: IdempotencyStore,
        route: ReplayRoute,
        clock: Clock,
        record: WriteDown,
        import_id: str,
        batch: int = BATCH,
    ) -> None:
        self._reader = reader
        self._producer = producer
        self._store = store
        self._route = route
        self._clock = clock
        self._record = record
        self._batch = batch
        self.import_id = import_id

    async def preview(self, file: ExportedFile, *, progress: Progress | None = None) -> ImportReport:
        """Count what ``run`` would do as things are now; nothing is written."""
        found = await self._look(file)
        report = ImportReport(self.import_id, file.end.letters)
        for records in _batches(file, self._batch):
            for digest, _ in self._count(records, found, report):
                found.found(digest, 0)
            await self._claims(list(map(read_dead_letter, records)), report)
            _tell(progress, report)
        return report

    async def run(
        self,
        file: ExportedFile,
        *,
        expected: Mapping[str, int] | None = None,
        stop: asyncio.Event | None = None,
        progress: Progress | None = None,
    ) -> ImportReport:
        """Import what is not there. ``expected`` are the counts of the preview, for the record.

        Returns early, after the batch in flight, once ``stop`` is set. Raises ``ImportRefusedError`` where another
        import is going on, ``TransportError`` where Kafka did not acknowledge a letter; whatever happens, the same call
        goes on where this one ended.
        """
        async with self._alone() as lease:
            found = await self._look(file)
            await self._record("begun", expected or {})
            report = ImportReport(self.import_id, file.end.letters)
            for records in _batches(file, self._batch):
                await lease.check()
                missing = self._count(records, found, report)
                await self._send(missing, found)
                await self._move_claims(records, found, report)
                _tell(progress, report)
                if stop is not None and stop.is_set():
                    report.was_stopped = True
                    break
            await self._record("ended", report.counts)
        return report

    # -- the topic

    async def _look(self, file: ExportedFile) -> FoundLetters:
        """Which of the letters the topic holds. Raises ``ImportRefusedError`` where they do not fit into it."""
        highest = -1

        def digests() -> Iterator[bytes]:
            nonlocal highest
            for number, filed in enumerate(file.letters(), start=2):
                self._check_ours(file, filed.record, number)
                highest = max(highest, filed.record.partition)
                yield letter_digest(filed.record)

        found = FoundLetters(digests())
        bounds = await self._reader.offsets([self._route.dead_letter_topic])
        if highest >= len(bounds):
            raise ImportRefusedError(
                f"the topic has {len(bounds)} partitions, a letter of the file is of partition {highest}",
                where=self._route.dead_letter_topic,
                remedy="a letter keeps its partition, and with it its place among others of its key: "
                "add partitions to the source topic and the lanes first",
            )
        start = {tp: first for tp, (first, _) in bounds.items()}
        async for records in self._reader.read(start, {tp: after for tp, (_, after) in bounds.items()}):
            for record in records:
                found.found(letter_digest(record), record.offset)
        return found

    def _check_ours(self, file: ExportedFile, record: Record, line: int) -> None:
        """In this topic every letter is taken for one of the bridge's."""
        if file.header.dead_letter_topic == self._route.dead_letter_topic:
            return
        if h.parse_position(h.text_of(record.headers, h.ORIGIN) or "") is None:
            raise ImportRefusedError(
                f"line {line}: {writer_of(record) or 'another system'} wrote this letter, not the bridge",
                where=str(file.path),
                remedy="replay it from the file: broker-bridge replay plan --source file --file FILE",
            )

    def _count(self, records: list[Record], found: FoundLetters, report: ImportReport) -> list[tuple[bytes, Record]]:
        """The letters that are to be sent, each once, with their digests."""
        missing = {digest: record for record in records if found.offset(digest := letter_digest(record)) is None}
        report.looked_at += len(records)
        report.imported += len(missing)
        report.already_there += len(records) - len(missing)
        return list(missing.items())

    async def _send(self, missing: list[tuple[bytes, Record]], found: FoundLetters) -> None:
        if not missing:
            return
        topic = self._route.dead_letter_topic
        answers = await self._producer.send_batch(
            [
                OutgoingRecord(topic, one.value, one.key, one.headers, one.partition, one.timestamp_ms)
                for _, one in missing
            ]
        )
        failed = None
        for (digest, _), answer in zip(missing, answers, strict=True):
            if isinstance(answer, TransportError):
                failed = failed or answer
            else:
                found.found(digest, answer.offset)
        if failed is not None:
            failed.remedy += "; then give the same command again: it goes on where this one ended"
            raise failed

    # -- claims

    def _key(self, letter: DeadLetter) -> bytes:
        return claim_key(letter.idempotency_key, namespace=self._route.topic)

    async def _claims(self, letters: list[DeadLetter], report: ImportReport) -> list[ClaimView | None]:
        claims = await self._store.inspect(self._route.group, [self._key(letter) for letter in letters])
        report.claim_expired += claims.count(None)
        return claims

    async def _move_claims(self, records: list[Record], found: FoundLetters, report: ImportReport) -> None:
        """Have the claims name the letters where they are now, as far as ``core.letter_import`` says."""
        letters = [self._here(record, found) for record in records]
        claims = await self._claims(letters, report)
        newest: dict[bytes, tuple[DeadLetter, ClaimView]] = {}
        for letter, claim in zip(letters, claims, strict=True):
            key = self._key(letter)
            if claim is not None and may_be_moved(letter, claim):
                other = newest.get(key)
                if other is None or is_newer(letter, other[0]):
                    newest[key] = letter, claim
        named = await self._named([claim for _, claim in newest.values()])
        moving: list[LetterClaim] = []
        for (key, (letter, _)), other_letter in zip(newest.items(), named, strict=True):
            if other_letter is not None and self._key(other_letter) != key:
                other_letter = None
            if is_newer(letter, other_letter):
                tag = operator_tag(Hand.IMPORT, f"{self.import_id} {letter.position}")
                moving.append(LetterClaim(letter, key=key, tag=tag))
        report.moved += await self._name_all(moving)

    async def _name_all(self, moving: list[LetterClaim]) -> int:
        """Have the claims name these letters; how many do. What somebody else has in hand is left to them."""
        moved, group = 0, self._route.group
        rounds = claim_letters(moving, store=self._store, clock=self._clock, group=group)
        async with aclosing(rounds):
            async for granted, _ in rounds:
                places = [pack_place(*one.letter.position[1:]) for one in granted]
                settlements = [one.settlement(SettleKind.DEAD, at) for one, at in zip(granted, places, strict=True)]
                statuses = await self._store.settle(group, settlements, ttl_ms=self._route.claim_ttl_ms)
                moved += statuses.count(SettleStatus.OK)
        return moved

    def _here(self, record: Record, found: FoundLetters) -> DeadLetter:
        offset = found.offset(letter_digest(record))
        assert offset is not None
        return replace(
            read_dead_letter(record), position=Position(self._route.dead_letter_topic, record.partition, offset)
        )

    async def _named(self, claims: list[ClaimView]) -> list[DeadLetter | None]:
        """What stands where each claim says that its letter is; None where nothing does."""
        if not claims:
            return []
        topic = self._route.dead_letter_topic
        bounds = await self._reader.offsets([topic])
        places = [None if left_by(claim) else Position(topic, *unpack_place(claim.detail)) for claim in claims]
        inside = [
            place
            for place in places
            if place is not None and place.offset in range(*bounds.get(TopicPartition(topic, place.partition), (0, 0)))
        ]
        records = dict(zip(inside, await self._reader.fetch(inside), strict=True))
        found = [records.get(place) if place is not None else None for place in places]
        return [read_dead_letter(record) if record is not None else None for record in found]

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[RunLease]:
        """Keep other imports into this topic out, on whatever machine."""
        topic = self._route.dead_letter_topic
        lease = RunLease(self._store, self._clock, group=self._route.group, plan_id=f"import {topic}")
        try:
            async with lease.held():
                yield lease
        except PlanRefusedError as error:
            raise ImportRefusedError(
                "another import into this topic is going on", where=topic, remedy="wait for it, or stop it"
            ) from error


def _batches(file: ExportedFile, size: int) -> Iterator[list[Record]]:
    records = (filed.record for filed in file.letters())
    while batch := list(islice(records, size)):
        yield batch


def _tell(progress: Progress | None, report: ImportReport) -> None:
    if progress is not None:
        progress(report)
