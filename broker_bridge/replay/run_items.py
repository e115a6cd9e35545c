"""The items of a plan on their way to be sent: claims looked up and letters fetched, both ahead of the sending.

Nothing is kept for an item but a bit; what is read ahead is bounded in records and in bytes (``sources.base``).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from itertools import islice
from typing import Final, NamedTuple

from broker_bridge.clock import Clock
from broker_bridge.core.claim import ClaimView
from broker_bridge.core.dead_letter import DeadLetter
from broker_bridge.core.identity import replay_tag
from broker_bridge.core.replay_plan import PlanItem
from broker_bridge.core.replay_state import Heading, before_sending, claim_of
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.replay.claims import with_claims
from broker_bridge.replay.plan_file import Plan
from broker_bridge.replay.redrive_lane import SentItems
from broker_bridge.replay.sources.base import LetterSource, Numbered

_BATCH: Final = 1_000

Found = list[tuple[Numbered, DeadLetter | None]]


class _Looked(NamedTuple):
    until: int
    at_ms: int


class RunItems:
    """The items of one plan, as things are now. ``headings`` counts those that are not sent; ``sent_early`` are the
    first ``canary`` items as far as this plan sent them before."""

    def __init__(
        self,
        plan: Plan,
        sent: SentItems,
        *,
        store: IdempotencyStore,
        source: LetterSource,
        clock: Clock,
        canary: int,
        headings: Counter[Heading],
    ) -> None:
        self._plan = plan
        self._sent = sent
        self._store = store
        self._source = source
        self._clock = clock
        self._canary = canary
        self._tag = replay_tag(plan.id)
        self._looked: deque[_Looked] = deque()
        self.headings = headings
        self.sent_early: list[PlanItem] = []

    async def to_send(self) -> AsyncGenerator[Found, None]:
        """The items that are to be sent, in the plan's order, with their letters."""
        async with aclosing(self._chosen()) as chosen, aclosing(self._source.letters(chosen)) as batches:
            async for batch in batches:
                yield batch

    async def letters_of(self, items: Sequence[Numbered]) -> Found:
        """Those of these items that are to be sent, with their letters; nothing is counted."""
        claims = await self._claims(items)
        wanted = [one for one, claim in zip(items, claims, strict=True) if self._heading(one, claim) is Heading.TO_SEND]
        found: Found = []
        async with aclosing(self._source.letters(_once(wanted))) as batches:
            async for batch in batches:
                found += batch
        return found

    async def look_again(self, found: Found) -> Found:
        """Those of these that are still to be sent; the others are counted."""
        claims = await self._claims([numbered for numbered, _ in found])
        self._looked.appendleft(_Looked(found[-1][0].number + 1, self._clock.now_ms()))
        return [one for one, claim in zip(found, claims, strict=True) if self._is_to_send(one[0], claim)]

    def looked_ms_ago(self, number: int) -> int:
        """How long ago the claim of this item was looked up; to be asked of rising numbers."""
        while len(self._looked) > 1 and self._looked[0].until <= number:
            self._looked.popleft()
        return self._clock.now_ms() - self._looked[0].at_ms

    async def _chosen(self) -> AsyncGenerator[list[Numbered], None]:
        looked_up = with_claims(
            _batches(self._plan.items()), key_of=self._key, store=self._store, group=self._plan.header.group
        )
        async with aclosing(looked_up):
            async for batch in looked_up:
                self._note(batch[-1][0].number + 1)
                if chosen := [numbered for numbered, claim in batch if self._is_to_send(numbered, claim)]:
                    yield chosen

    def _is_to_send(self, numbered: Numbered, claim: ClaimView | None) -> bool:
        heading = self._heading(numbered, claim)
        if heading is Heading.TO_SEND:
            return True
        self.headings[heading] += 1
        if heading is Heading.SENT_BEFORE and numbered.number < self._canary:
            self.sent_early.append(numbered.item)
        return False

    def _heading(self, numbered: Numbered, claim: ClaimView | None) -> Heading:
        number, item = numbered
        return before_sending(item, claim, header=self._plan.header, replay=self._tag, was_sent=number in self._sent)

    def _key(self, numbered: Numbered) -> bytes:
        return claim_of(numbered.item, self._plan.id, namespace=self._plan.header.topic)

    async def _claims(self, items: Sequence[Numbered]) -> list[ClaimView | None]:
        return await self._store.inspect(self._plan.header.group, [self._key(one) for one in items])

    def _note(self, until: int) -> None:
        self._looked.append(_Looked(until, self._clock.now_ms()))


async def _batches(items: Iterable[PlanItem]) -> AsyncGenerator[list[Numbered], None]:
    numbered = map(Numbered._make, enumerate(items))
    while batch := list(islice(numbered, _BATCH)):
        yield batch


async def _once(items: list[Numbered]) -> AsyncGenerator[list[Numbered], None]:
    if items:
        yield items
