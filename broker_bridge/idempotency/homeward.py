"""Claims that were granted or settled while the store was away, on their way home into it.

A grant made without the store is claimed there with the nonce it was made with, then settled as it was settled here.
Whoever else got hold of the key meanwhile stands against it there: then an effect may have happened twice, and that is
told, never smoothed over. Repeating a call whose answer was lost changes nothing: the same nonce is granted again, and
a grant whose token at home is known is not claimed a second time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from broker_bridge.core.claim import ClaimAnswer, ClaimRequest, ClaimStatus, Held, SettleKind, Settlement, SettleStatus
from broker_bridge.errors import StoreError
from broker_bridge.idempotency.base import IdempotencyStore

BATCH = 500
"""How many steps are written home in one go."""


@dataclass(slots=True, eq=False)
class Grant:
    """A claim in hand. ``token`` is what its holder was told, ``home_token`` what the store knows it by, or 0.

    ``told_tries`` is how many tries its holder was told of, ``local`` that it was granted without the store.
    ``attempt`` and ``tries`` were written down while the store was away. ``unused`` says that it was let go untried,
    ``refused`` that the store has since given the key to somebody else.
    """

    group: str
    request: ClaimRequest
    token: int
    home_token: int
    lease_ms: int
    lease_end_ms: int
    told_tries: int
    local: bool
    attempt: int = 0
    tries: int = 0
    unused: bool = False
    refused: bool = False


@dataclass(slots=True, eq=False)
class Step:
    """One settlement to be repeated at home."""

    grant: Grant
    settlement: Settlement
    ttl_ms: int


Collided = Callable[[Grant, ClaimAnswer], None]
"""Told of each grant that the store has given to somebody else, with its answer."""


class Homeward:
    """The way home: at most ``limit`` steps, oldest first; each of a key is written before the next of it begins."""

    def __init__(self, store: IdempotencyStore, *, limit: int, collided: Collided) -> None:
        self._store = store
        self._limit = limit
        self._collided = collided
        self._steps: deque[Step] = deque()
        self.written = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: Step) -> None:
        """The newest step; beyond the limit the oldest is dropped and counted."""
        self._steps.append(step)
        self._trim()

    async def write(self) -> None:
        """Write one batch. Raises ``StoreError``; what was not written goes again."""
        batch = self._take()
        try:
            await self._write(batch)
        except BaseException as error:
            self._put_back(batch)
            if not isinstance(error, StoreError) or error.retriable:
                raise
            await self._write_one_by_one(len(batch))

    async def adopt(self, grants: Sequence[Grant]) -> None:
        """Claim at home what is in hand and not settled. Raises ``StoreError``; some may be adopted then."""
        for first in range(0, len(grants), BATCH):
            by_group: dict[str, list[Grant]] = {}
            for grant in grants[first : first + BATCH]:
                by_group.setdefault(grant.group, []).append(grant)
            for some in by_group.values():
                await self._claim(some)

    def _take(self) -> list[Step]:
        """The longest run of oldest steps of one group in which no key comes twice, out of the queue."""
        batch: list[Step] = []
        keys: set[bytes] = set()
        for step in islice(self._steps, BATCH):
            key = step.grant.request.key
            if key in keys or (batch and _fellow(step) != _fellow(batch[0])):
                break
            keys.add(key)
            batch.append(step)
        for _ in batch:
            self._steps.popleft()
        return batch

    def _put_back(self, batch: Sequence[Step]) -> None:
        self._steps.extendleft(reversed(batch))
        self._trim()

    def _trim(self) -> None:
        while len(self._steps) > self._limit:
            self._steps.popleft()
            self.dropped += 1

    async def _write(self, batch: list[Step]) -> None:
        """``batch`` is emptied of what is done with, so that a failure leaves what has to go again."""
        await self._claim_of_steps([step for step in batch if not step.grant.home_token and not step.grant.refused])
        batch[:] = [step for step in batch if not step.grant.refused]
        stale = await self._settle(batch)
        batch[:] = stale
        # Granted by the store, and gone from it: lost there (W3), or taken over once the lease had run out.
        for step in stale:
            step.grant.home_token = 0
        await self._claim([step.grant for step in stale])
        batch[:] = [step for step in batch if not step.grant.refused]
        for step in await self._settle(batch):
            self._collided(step.grant, ClaimAnswer(ClaimStatus.BUSY))
        batch.clear()

    async def _write_one_by_one(self, count: int) -> None:
        """One of the next ``count`` meets a value that is no claim: it is left there, and the others go home."""
        for _ in range(count):
            one = [self._steps.popleft()]
            try:
                await self._write(one)
            except BaseException as error:
                if not isinstance(error, StoreError) or error.retriable:
                    self._put_back(one)
                    raise
                self.dropped += 1

    async def _claim_of_steps(self, steps: Sequence[Step]) -> None:
        """What was done here with an old copy is done, also where the store knows of a later one: that is claimed in
        its place, to be settled with it. It would have its effect again otherwise::

            store     RETRY, copy 3 lives       away               superseded: copy 3 is claimed, and COMPLETED
            here      has not heard of copy 3   copy 2: its effect    writes that home
        """
        done = {step.grant for step in steps if step.settlement.kind is SettleKind.COMPLETE}
        await self._claim(await self._claim([step.grant for step in steps], done))

    async def _claim(self, grants: Sequence[Grant], done: Collection[Grant] = ()) -> list[Grant]:
        """Answers with those of ``done`` that the store has a later copy of; their requests are for that one then."""
        superseded: list[Grant] = []
        if not grants:
            return superseded
        lease_ms = max(grant.lease_ms for grant in grants)
        answers = await self._store.claim(grants[0].group, [grant.request for grant in grants], lease_ms=lease_ms)
        for grant, answer in zip(grants, answers, strict=True):
            if answer.status is ClaimStatus.GRANTED:
                grant.home_token = answer.token
            elif answer.status is ClaimStatus.SUPERSEDED and grant in done:
                grant.request = grant.request._replace(attempt=answer.attempt)
                superseded.append(grant)
            else:
                grant.refused = True
                self._collided(grant, answer)
        return superseded

    async def _settle(self, steps: Sequence[Step]) -> list[Step]:
        """Settle as it was settled here; the answer is what the store no longer knows as ours."""
        if not steps:
            return []
        group = steps[0].grant.group
        held = [_held(step.grant) for step in steps if step.grant.attempt or step.grant.tries]
        if held:
            await self._store.renew(group, held, lease_ms=max(step.grant.lease_ms for step in steps))
        settlements = [step.settlement._replace(token=step.grant.home_token) for step in steps]
        statuses = await self._store.settle(group, settlements, ttl_ms=steps[0].ttl_ms)
        stale = [step for step, status in zip(steps, statuses, strict=True) if status is SettleStatus.STALE]
        self.written += len(steps) - len(stale)
        return stale


def _held(grant: Grant) -> Held:
    return Held(grant.request.key, grant.request.nonce, grant.home_token, grant.attempt, grant.tries)


def _fellow(step: Step) -> tuple[str, int]:
    return step.grant.group, step.ttl_ms


def unadopted(grants: Iterable[Grant], *, now_ms: int) -> list[Grant]:
    """Those in hand that the store does not know of; one whose lease ran out is in nobody's hand."""
    return [g for g in grants if not g.home_token and not g.refused and now_ms < g.lease_end_ms]
