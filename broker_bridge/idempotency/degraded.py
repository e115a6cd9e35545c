"""A route that goes on while Redis is away: ``claims.on_redis_down`` = ``fallback`` or ``fail_open`` (window W5).

::

    at home ── a call fails ──▶ away: decided here ── every second: does the store answer? ──▶ writing home ──▶ at home
                                  ▲                                                                │
                                  └──────────────────────── it fails again ────────────────────────┘

Whatever is granted without the store is flagged: counted, and announced to the target as a possible repeat. It is
written home before anything is claimed there again, so that later copies of it are dropped, and whoever else did the
same work meanwhile is found out.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from structlog.typing import FilteringBoundLogger

from broker_bridge.clock import Clock
from broker_bridge.core.claim import (
    NO_FINGERPRINT,
    ClaimAnswer,
    ClaimRequest,
    ClaimState,
    ClaimStatus,
    ClaimView,
    Held,
    SettleKind,
    Settlement,
    SettleStatus,
    check_held,
    check_request,
)
from broker_bridge.core.claim_rules import apply_claim
from broker_bridge.errors import StoreError
from broker_bridge.idempotency.absence import Absence, Flag
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.idempotency.homeward import Grant, Homeward, Step
from broker_bridge.idempotency.local_claims import LocalClaims
from broker_bridge.idempotency.versions_homeward import VersionsHomeward
from broker_bridge.observability import events

Policy = Literal["fallback", "fail_open"]

MOST_REMEMBERED = 100_000
_MOST_LINES = 100
"""Repeats told one by one in each outage; the others are counted."""
_DAY_MS = 24 * 60 * 60 * 1000

_HeldKey = tuple[str, bytes, bytes]


class DegradedStore:
    """An ``IdempotencyStore`` around ``primary`` that answers also while that one is away. For one route.

    ``policy`` ``fallback``: claims are decided by what this process knows, by the rules of every store; other workers
    are not seen. ``fail_open``: every request is granted. Of the claims of this process (``fallback`` only), of those
    in hand, and of settlements on their way home at most ``limit`` each are remembered, the newest.

    Tokens that its holders are told grow over an outage and back, whatever the clocks of this machine and of the store
    say, as far as this process has seen them; without the store they are at least this machine's clock in microseconds.

    A claim of the store's that is settled while it is away is answered as settled and repeated at home. ``inspect``
    answers ``DEAD`` for a key that is not known here while the store is away: nothing held for a dead letter is let go
    on a guess. ``tally`` raises ``StoreError`` then. ``counted`` is told of each ``Flag``.
    """

    def __init__(
        self,
        primary: IdempotencyStore,
        clock: Clock,
        *,
        policy: Policy,
        log: FilteringBoundLogger,
        counted: Callable[[Flag, int], None],
        limit: int = MOST_REMEMBERED,
        claim_ttl_ms: int = _DAY_MS,
    ) -> None:
        self._primary = primary
        self._clock = clock
        self._policy: Policy = policy
        self._log = log
        self._counted = counted
        self._limit = limit
        self._known = LocalClaims(clock, limit=limit, claim_ttl_ms=claim_ttl_ms) if policy == "fallback" else None
        self._held: dict[_HeldKey, Grant] = {}
        self._homeward = Homeward(primary, limit=limit, collided=self._collided)
        self._highest_token = 0
        self._highest_local = 0
        self._versions = VersionsHomeward(primary, limit=limit)
        self._absence = Absence(
            primary,
            clock,
            self._homeward,
            self._versions,
            in_hand=self._held.values,
            policy=policy,
            log=log,
            counted=counted,
        )
        self._claiming = asyncio.Lock()

    @property
    def away(self) -> bool:
        """Whether calls are answered here now."""
        return self._absence.outage is not None

    @property
    def homeward(self) -> int:
        """How many settlements wait for the store."""
        return len(self._homeward)

    async def start(self) -> None:
        """Start the primary; an outage of it is no failure here. Raises what else it raises."""
        try:
            await self._primary.start()
        except StoreError as error:
            self._absence.fell(error)

    async def claim(self, group: str, requests: Sequence[ClaimRequest], *, lease_ms: int) -> list[ClaimAnswer]:
        """See ``IdempotencyStore.claim``. Raises no ``StoreError`` for an outage."""
        for request in requests:
            check_request(request)
        async with self._claiming:  # an answer still on its way must not meet a decision made here
            while await self._absence.is_home(group):
                try:
                    answers = await self._primary.claim(group, requests, lease_ms=lease_ms)
                except StoreError as error:
                    self._absence.fell(error)
                else:
                    return [self._noted(group, r, a, lease_ms) for r, a in zip(requests, answers, strict=True)]
            return [self._decided(group, request, lease_ms) for request in requests]

    async def renew(self, group: str, held: Sequence[Held], *, lease_ms: int) -> list[bool]:
        """See ``IdempotencyStore.renew``. Raises no ``StoreError`` for an outage."""
        for one in held:
            check_held(one)
        while await self._absence.is_home(group):
            asked = [one._replace(token=self._home_token(group, one)) for one in held]
            try:
                kept = await self._primary.renew(group, asked, lease_ms=lease_ms)
            except StoreError as error:
                self._absence.fell(error)
            else:
                for one, ours in zip(held, kept, strict=True):
                    if ours:
                        self._renewed(group, one, lease_ms)
                    else:
                        self._lost(group, one)
                return kept
        return [self._renewed(group, one, lease_ms) for one in held]

    async def settle(self, group: str, settlements: Sequence[Settlement], *, ttl_ms: int) -> list[SettleStatus]:
        """See ``IdempotencyStore.settle``. Raises no ``StoreError`` for an outage."""
        for settlement in settlements:
            check_held(settlement)
        while await self._absence.is_home(group):
            asked = [one._replace(token=self._home_token(group, one)) for one in settlements]
            try:
                statuses = await self._primary.settle(group, asked, ttl_ms=ttl_ms)
            except StoreError as error:
                self._absence.fell(error)
            else:
                for one, status in zip(settlements, statuses, strict=True):
                    if status is SettleStatus.STALE:
                        self._lost(group, one)
                    else:
                        self._held.pop((group, one.key, one.nonce), None)
                        if self._known is not None:
                            self._known.settle(group, one, ttl_ms=ttl_ms)
                return statuses
        return [self._settled(group, settlement, ttl_ms) for settlement in settlements]

    async def inspect(self, group: str, keys: Sequence[bytes]) -> list[ClaimView | None]:
        """See ``IdempotencyStore.inspect``, and the class for an outage."""
        while await self._absence.is_home(group):
            try:
                return await self._primary.inspect(group, keys)
            except StoreError as error:
                self._absence.fell(error)
        known = self._known
        return [(known.view(group, key) if known is not None else None) or _UNKNOWN for key in keys]

    async def advance(self, group: str, versions: Mapping[bytes, int], *, ttl_ms: int) -> None:
        """See ``IdempotencyStore.advance``. Raises no ``StoreError`` for an outage: they are written home after it."""
        while await self._absence.is_home(group):
            try:
                return await self._primary.advance(group, versions, ttl_ms=ttl_ms)
            except StoreError as error:
                self._absence.fell(error)
        before = self._versions.dropped
        self._versions.add(group, versions, ttl_ms=ttl_ms)
        if self._versions.dropped > before:
            self._counted(Flag.DROPPED, self._versions.dropped - before)
        return None

    async def versions(self, group: str, keys: Sequence[bytes]) -> list[int | None]:
        """See ``IdempotencyStore.versions``. Raises ``StoreError`` while the store is away: nobody here knows what
        other workers completed."""
        if not await self._absence.is_home(group):
            raise StoreError("the store is away; it is not asked before the next probe")
        try:
            return await self._primary.versions(group, keys)
        except StoreError as error:
            self._absence.fell(error)
            raise

    async def tally(self, name: str, first: int, again: int, *, window_ms: int) -> tuple[int, int]:
        """See ``IdempotencyStore.tally``. Raises ``StoreError`` at once while the store is known to be away."""
        if self._absence.outage is not None:
            raise StoreError("the store is away; it is not asked before the next probe")
        return await self._primary.tally(name, first, again, window_ms=window_ms)

    def losses(self) -> int:
        """See ``IdempotencyStore.losses``."""
        return self._primary.losses()

    async def stop(self) -> None:
        """Write home what is left, if the store answers within ``LONGEST_FAREWELL_S``. The primary is not stopped: it
        is shared."""
        await self._absence.stop()

    def _collided(self, grant: Grant, answer: ClaimAnswer) -> None:
        if self._known is not None:
            self._known.refused(grant.group, grant.request, answer)
        if grant.unused:
            return
        if not grant.local:
            self._counted(Flag.UNGUARDED, 1)
        self._counted(Flag.COLLIDED, 1)
        if self._absence.outage is None:
            return
        self._absence.outage.collided += 1
        if self._absence.outage.collided <= _MOST_LINES:
            _, partition, offset = struct.unpack(">IIQ", grant.request.origin)
            self._log.error(
                events.EFFECT_REPEATED,
                partition=partition,
                offset=offset,
                state=answer.status.name.lower(),
                fencing_token=grant.token,
            )

    # --- decided by the primary ---------------------------------------------------------------------------------------

    def _noted(self, group: str, request: ClaimRequest, answer: ClaimAnswer, lease_ms: int) -> ClaimAnswer:
        if answer.status is not ClaimStatus.GRANTED:
            if self._known is not None:
                self._known.refused(group, request, answer)
            return answer
        grant = self._held.get((group, request.key, request.nonce))
        if grant is None or grant.home_token != answer.token:
            grant = self._hold(group, request, answer, lease_ms, token=self._above(answer.token), local=False)
            grant.home_token = answer.token
        told = answer if grant.token == answer.token else answer._replace(token=grant.token)
        if self._known is not None:
            self._known.granted(group, request, told, lease_ms=lease_ms)
        return told

    def _above(self, token: int) -> int:
        """The primary's token, or a larger one where it is below those given out here: a target that remembers tokens
        would refuse it."""
        if token <= self._highest_local:
            token = self._highest_local = self._highest_local + 1
        return token

    def _home_token(self, group: str, held: Held | Settlement) -> int:
        grant = self._held.get((group, held.key, held.nonce))
        return grant.home_token if grant is not None and grant.token == held.token else held.token

    def _lost(self, group: str, held: Held | Settlement) -> None:
        self._held.pop((group, held.key, held.nonce), None)
        if self._known is not None:
            self._known.forget(group, held.key, held.nonce)

    # --- decided here -------------------------------------------------------------------------------------------------

    def _decided(self, group: str, request: ClaimRequest, lease_ms: int) -> ClaimAnswer:
        place = (group, request.key, request.nonce)
        grant = self._held.get(place)
        if self._known is not None:
            answer, taken = self._known.claim(group, request, lease_ms=lease_ms, floor=self._highest_token)
            if taken is not None:
                self._held.pop((group, request.key, taken), None)
            if answer.status is not ClaimStatus.GRANTED:
                return answer
        elif grant is not None and not grant.refused:
            answer = ClaimAnswer(ClaimStatus.GRANTED, grant.token, max(request.attempt, grant.attempt))
        else:
            now_us = self._clock.now_ms() * 1000
            answer, _ = apply_claim(None, request, now_us=now_us, lease_ms=lease_ms, floor=self._highest_token)
        answer = answer._replace(tries=max(1, answer.tries))  # the target is told: perhaps not the first
        if grant is not None and not grant.refused and grant.token == answer.token:
            grant.lease_end_ms = self._clock.now_ms() + lease_ms
            return answer
        self._hold(group, request, answer, lease_ms, token=answer.token, local=True)
        self._highest_local = max(self._highest_local, answer.token)
        self._counted(Flag.UNGUARDED, 1)
        if self._absence.outage is not None:
            self._absence.outage.granted += 1
        return answer

    def _hold(
        self, group: str, request: ClaimRequest, answer: ClaimAnswer, lease_ms: int, *, token: int, local: bool
    ) -> Grant:
        place = (group, request.key, request.nonce)
        grant = Grant(
            group=group,
            request=request,
            token=token,
            home_token=0,
            lease_ms=lease_ms,
            lease_end_ms=self._clock.now_ms() + lease_ms,
            told_tries=answer.tries,
            local=local,
        )
        self._held.pop(place, None)
        self._held[place] = grant
        if len(self._held) > self._limit:
            del self._held[next(iter(self._held))]
        self._highest_token = max(self._highest_token, token)
        return grant

    def _renewed(self, group: str, held: Held, lease_ms: int) -> bool:
        grant = self._held.get((group, held.key, held.nonce))
        if grant is not None and (grant.refused or grant.token != held.token):
            return False
        if self._known is not None:
            kept = self._known.renew(group, held, lease_ms=lease_ms)
            if kept is False or (kept is None and grant is None):
                return False
        if grant is not None:
            grant.attempt, grant.tries = max(grant.attempt, held.attempt), max(grant.tries, held.tries)
            grant.lease_end_ms = self._clock.now_ms() + lease_ms
        return True

    def _settled(self, group: str, settlement: Settlement, ttl_ms: int) -> SettleStatus:
        place = (group, settlement.key, settlement.nonce)
        grant = self._held.get(place)
        if grant is not None and (grant.refused or grant.token != settlement.token):
            return SettleStatus.STALE
        if self._known is not None:
            status = self._known.settle(group, settlement, ttl_ms=ttl_ms)
            if status is SettleStatus.STALE or (status is None and grant is None):
                return SettleStatus.STALE
        if grant is not None:
            del self._held[place]
            grant.unused = settlement.kind is SettleKind.RELEASE and settlement.tries <= grant.told_tries
            before = self._homeward.dropped
            self._homeward.add(Step(grant, settlement, ttl_ms))
            if self._homeward.dropped > before:
                self._counted(Flag.DROPPED, self._homeward.dropped - before)
        return SettleStatus.OK


_UNKNOWN = ClaimView(ClaimState.DEAD, 0, 0, 0, 0, 0, b"\0" * 16, NO_FINGERPRINT, b"\0" * 8, b"")
