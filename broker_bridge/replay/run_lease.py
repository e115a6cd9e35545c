"""One run of a plan at a time, on whatever machine: a claim in the claim store, leased and renewed while it runs.

A run that is killed leaves its lease behind, which ends by itself; another run waits for that, and is refused as soon
as it sees a renewal::

    run A   claims ── renews ── renews ── killed
    run B     asks: busy, lease until t ── looks again: lease grew ── refused
    run C                                     asks: busy, until t ── t has come, nobody renewed ── claims

A run that was stopped for longer than its lease (SIGSTOP, a machine that slept) asks before it sends again. What still
slips through between asking and sending is a copy more, and claims grant one copy of each message (I7).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from broker_bridge.clock import Clock
from broker_bridge.core.claim import (
    ClaimAnswer,
    ClaimRequest,
    ClaimStatus,
    Held,
    SettleKind,
    Settlement,
    pack_origin,
)
from broker_bridge.core.identity import claim_key
from broker_bridge.errors import PlanRefusedError, ReplayError, StoreError
from broker_bridge.idempotency.base import IdempotencyStore

LEASE_MS: Final = 15_000
RENEW_MS: Final = 5_000
_LOOK_MS: Final = 1_000
_KEPT_MS: Final = 86_400_000
_FINGERPRINT: Final = b"run-plan"

Waiting = Callable[[int], None]
"""Told, in ms, how long the lease of a run that may be gone still runs."""
Who = Callable[[], Awaitable[str]]
"""Says who holds the lease, as far as anybody wrote it down."""


class RunLease:
    """The lease of a run, held inside ``held``."""

    def __init__(
        self, store: IdempotencyStore, clock: Clock, *, group: str, plan_id: str, who: Who | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._group = group
        self._plan_id = plan_id
        self._who = who
        self._key = claim_key(f"replay-run {plan_id}")
        self._nonce = secrets.token_bytes(8)
        self._token = 0
        self._until_ms = 0

    @contextlib.asynccontextmanager
    async def held(self, *, waiting: Waiting | None = None) -> AsyncGenerator[RunLease, None]:
        """Hold the lease. Raises ``PlanRefusedError`` where another run holds it."""
        await self._acquire(waiting)
        renewals = asyncio.create_task(self._renew_for_ever())
        try:
            yield self
        finally:
            renewals.cancel()
            await asyncio.wait({renewals})
            await self._release()

    async def check(self) -> None:
        """To be called before each send. Raises ``ReplayError`` where the lease ran out and another run took it."""
        if self._clock.now_ms() >= self._until_ms and not await self._renew():
            raise ReplayError(
                "this run stood still for so long that its lease ran out, and it is gone: another run of the plan took "
                "over, or the claims were lost",
                where=self._plan_id,
                remedy="broker-bridge history shows who runs it; the same command goes on once that one has ended",
            )

    async def _acquire(self, waiting: Waiting | None) -> None:
        answer = await self._claim()
        seen = await self._lease_end()
        while answer.status is not ClaimStatus.GRANTED:
            if waiting is not None:
                waiting(answer.retry_after_ms)
            await self._clock.sleep_ms(max(1, min(_LOOK_MS, answer.retry_after_ms)))
            answer, now_seen = await self._claim(), await self._lease_end()
            if answer.status is not ClaimStatus.GRANTED and now_seen != seen:
                who = await self._who() if self._who is not None else ""
                raise PlanRefusedError(
                    "another run of this plan is going on" + (f": {who}" if who else ""),
                    where=self._plan_id,
                    remedy="wait for it, or stop it; broker-bridge history shows who runs it and where",
                )

    async def _claim(self) -> ClaimAnswer:
        asked_ms = self._clock.now_ms()
        request = ClaimRequest(self._key, self._nonce, _FINGERPRINT, pack_origin(self._plan_id, 0, 0))
        (answer,) = await self._store.claim(self._group, [request], lease_ms=LEASE_MS)
        if answer.status is ClaimStatus.GRANTED:
            self._token, self._until_ms = answer.token, asked_ms + LEASE_MS
        return answer

    async def _lease_end(self) -> int:
        (found,) = await self._store.inspect(self._group, [self._key])
        return found.lease_end_ms if found is not None else 0

    async def _renew_for_ever(self) -> None:
        while True:
            await self._clock.sleep_ms(RENEW_MS)
            # The lease outlasts two renewals that fail; ``check`` has the last word.
            with contextlib.suppress(StoreError):
                await self._renew()

    async def _renew(self) -> bool:
        asked_ms = self._clock.now_ms()
        held = Held(self._key, self._nonce, self._token, 0)
        (is_ours,) = await self._store.renew(self._group, [held], lease_ms=LEASE_MS)
        if is_ours:
            self._until_ms = asked_ms + LEASE_MS
        return is_ours

    async def _release(self) -> None:
        """Let the next run begin at once; where the store is away, it waits for the end of the lease."""
        settlement = Settlement(self._key, self._nonce, self._token, SettleKind.RELEASE)
        with contextlib.suppress(StoreError):
            await self._store.settle(self._group, [settlement], ttl_ms=_KEPT_MS)
