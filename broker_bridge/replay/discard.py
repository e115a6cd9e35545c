"""Discarding dead letters: an operator decides that their messages will never be handled.

The claim of each message says so (COMPLETED, ``discarded``): nothing else has to be told. A replayed copy of it that is
still on its way is dropped as a duplicate, a key that the letter holds is free, a plan skips it, the audit counts it as
discarded. Races are decided by the claim: whoever is granted it first ends the message, the other finds it ended::

    discard    claims ── records the places ── settles: COMPLETED, discarded
    worker                   the replayed copy: busy … asks again: done, dropped

    worker     the replayed copy: claims ── …
    discard                busy: in hand, told, left alone

Which letters they were is recorded in the operations topic, and acknowledged, before the claims say so: claims expire,
the topic is kept. A discard that was killed in between leaves claims that the next one takes over (``operator_claim``).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from broker_bridge.clock import Clock
from broker_bridge.core.claim import (
    DISCARDED_DETAIL,
    SettleKind,
    SettleStatus,
    pack_place,
)
from broker_bridge.core.discard import LISTING, Fate, Place, fate_of, fate_when_refused, place_texts
from broker_bridge.core.letters import Selection
from broker_bridge.core.operator_claim import Hand, operator_tag
from broker_bridge.errors import BridgeError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.replay.dead_letters import Bounds, BrowsedLetter, DeadLetters
from broker_bridge.replay.operator_claims import LetterClaim, claim_letters
from broker_bridge.replay.route import ReplayRoute


@dataclass(slots=True)
class DiscardReport:
    """How far a discard is. ``fates`` counts the letters that were selected."""

    discard_id: str
    fates: Counter[Fate] = field(default_factory=Counter)
    was_stopped: bool = False

    @property
    def discarded(self) -> int:
        """How many were discarded by this discard so far."""
        return self.fates[Fate.DISCARDED]

    @property
    def in_hand(self) -> int:
        """How many were left, because somebody has them in hand."""
        return self.fates[Fate.IN_HAND]

    @property
    def counts(self) -> dict[str, int]:
        """The counts by name, for the record of the operation."""
        return {"selected": self.fates.total(), **{fate.value: self.fates[fate] for fate in Fate if self.fates[fate]}}


Record = Callable[[str, Mapping[str, int], Sequence[str]], Awaitable[None]]
"""``await record(phase, counts, places)``: write an operation down, acknowledged. ``phase`` is ``begun``, ``places``
or ``ended``."""
Progress = Callable[[DiscardReport], None]


class Discarder:
    """Discards letters of one route. ``store`` and what ``letters`` reads with are started by the caller."""

    def __init__(
        self,
        *,
        letters: DeadLetters,
        store: IdempotencyStore,
        route: ReplayRoute,
        clock: Clock,
        record: Record,
        discard_id: str,
    ) -> None:
        self._letters = letters
        self._store = store
        self._route = route
        self._clock = clock
        self._record = record
        self.discard_id = discard_id

    async def preview(
        self,
        selection: Selection,
        *,
        allow_expired: bool,
        bounds: Bounds | None = None,
        progress: Progress | None = None,
    ) -> DiscardReport:
        """Count what ``discard`` would do; nothing is written."""
        report = DiscardReport(self.discard_id)
        async with aclosing(self._letters.browse(selection, bounds=bounds)) as batches:
            async for batch in batches:
                report.fates.update(fate_of(one.state, one.claim, allow_expired=allow_expired) for one in batch)
                if progress is not None:
                    progress(report)
        return report

    async def discard(
        self,
        selection: Selection,
        *,
        allow_expired: bool,
        bounds: Bounds | None = None,
        expected: Mapping[str, int] | None = None,
        stop: asyncio.Event | None = None,
        progress: Progress | None = None,
    ) -> DiscardReport:
        """Discard every letter that may be. ``expected`` are the counts of the preview, for the record.

        Returns early, after the batch in flight, once ``stop`` is set. Raises ``OperationUnrecordedError`` where Kafka
        does not take the record: then nothing more is discarded. The same command may be given again after whatever
        happened: what was discarded is counted as such.
        """
        report = DiscardReport(self.discard_id)
        await self._record("begun", expected or {}, ())
        async with aclosing(self._letters.browse(selection, bounds=bounds)) as batches:
            async for batch in batches:
                await self._discard(batch, report, allow_expired=allow_expired)
                if progress is not None:
                    progress(report)
                if stop is not None and stop.is_set():
                    report.was_stopped = True
                    break
        await self._record("ended", report.counts, ())
        return report

    async def _discard(self, batch: list[BrowsedLetter], report: DiscardReport, *, allow_expired: bool) -> None:
        chosen: dict[bytes, LetterClaim] = {}
        for browsed in batch:
            fate = fate_of(browsed.state, browsed.claim, allow_expired=allow_expired)
            if fate is Fate.TO_DISCARD:
                key, place = self._letters.claim_key_of(browsed.letter), browsed.letter.position
                if key not in chosen:
                    tag = operator_tag(Hand.DISCARD, f"{self.discard_id} {place}")
                    chosen[key] = LetterClaim(browsed.letter, key=key, tag=tag)
                    continue
                fate = Fate.ALREADY_DISCARDED  # or will be: another letter of the same message
            report.fates[fate] += 1
        await self._end(list(chosen.values()), report)

    async def _end(self, chosen: list[LetterClaim], report: DiscardReport) -> None:
        rounds = claim_letters(chosen, store=self._store, clock=self._clock, group=self._route.group)
        async with aclosing(rounds):
            async for granted, refused in rounds:
                report.fates.update(fate_when_refused(one.answer) for one in refused)
                if granted:
                    await self._write_down(granted)
                    await self._settle(granted, report)

    async def _write_down(self, granted: list[LetterClaim]) -> None:
        try:
            for texts in place_texts(_place(one) for one in granted):
                await self._record(LISTING, {}, texts)
        except BridgeError:
            # As they were: dead, and each claim names its letter.
            back = [one.settlement(SettleKind.DEAD, pack_place(*_place(one))) for one in granted]
            await self._store.settle(self._route.group, back, ttl_ms=self._route.claim_ttl_ms)
            raise

    async def _settle(self, granted: list[LetterClaim], report: DiscardReport) -> None:
        settlements = [one.settlement(SettleKind.COMPLETE, DISCARDED_DETAIL) for one in granted]
        statuses = await self._store.settle(self._route.group, settlements, ttl_ms=self._route.claim_ttl_ms)
        report.fates.update(Fate.DISCARDED if status is SettleStatus.OK else Fate.IN_HAND for status in statuses)


def _place(one: LetterClaim) -> Place:
    return Place(one.letter.position.partition, one.letter.position.offset)
