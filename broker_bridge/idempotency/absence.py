"""When the store is away, and the way back: one question a second, then home, then the calls again.

Nobody who calls waits for a store that is known to be away. While the last of what was decided here is written home,
calls wait for that: whoever is answered by the store afterwards is answered by one that knows everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from broker_bridge.clock import Clock
from broker_bridge.core.claim import NO_FINGERPRINT, ClaimRequest, ClaimStatus, SettleKind, Settlement
from broker_bridge.errors import BridgeError, StoreError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.idempotency.homeward import BATCH, Grant, Homeward, unadopted
from broker_bridge.idempotency.versions_homeward import VersionsHomeward
from broker_bridge.observability import events

PROBE_MS = 1_000
"""How long after a failure the store is asked again whether it is back; nothing else asks it meanwhile."""
LONGEST_FAREWELL_S = 5.0
"""How long ``stop`` tries to write home what is left."""


class Flag(enum.Enum):
    """What is counted."""

    FAILED = "failed"
    """A call to the store that failed."""
    UNGUARDED = "unguarded"
    """A grant the store did not make, or could not keep: its effect may be a repeat."""
    COLLIDED = "collided"
    """The store had given the key to somebody else as well: its effect was probably a repeat."""
    DROPPED = "dropped"
    """Never written home: a later copy of it will not be known as one, nor a replay of an older version as that."""


@dataclass(slots=True)
class Outage:
    """One time that the store was away, and what came of it."""

    started_ms: int
    granted: int = 0
    collided: int = 0
    written_before: int = 0
    dropped_before: int = 0


class Absence:
    """Tells ``DegradedStore`` whether its primary is to be asked. ``in_hand`` are the grants in hand now."""

    def __init__(
        self,
        primary: IdempotencyStore,
        clock: Clock,
        homeward: Homeward,
        versions: VersionsHomeward,
        *,
        in_hand: Callable[[], Iterable[Grant]],
        policy: str,
        log: FilteringBoundLogger,
        counted: Callable[[Flag, int], None],
    ) -> None:
        self._primary = primary
        self._clock = clock
        self._homeward = homeward
        self._versions = versions
        self._in_hand = in_hand
        self._policy = policy
        self._log = log
        self._counted = counted
        self.outage: Outage | None = None
        self._failure: BaseException | None = None
        self._group = ""
        self._probe_key = os.urandom(16)
        self._return: asyncio.Task[None] | None = None
        self._open = asyncio.Event()
        self._open.set()

    async def is_home(self, group: str) -> bool:
        """Whether to ask the primary. Waits while the last of an outage are on their way home."""
        self._group = group
        await self._open.wait()
        if self._failure is not None:
            raise self._failure
        return self.outage is None

    def fell(self, error: StoreError) -> None:
        """The primary is away from here on. Raises ``error`` where waiting would not help."""
        if not error.retriable:
            raise error
        self._counted(Flag.FAILED, 1)
        if self.outage is not None:
            return
        self.outage = Outage(
            self._clock.now_ms(), written_before=self._homeward.written, dropped_before=self._homeward.dropped
        )
        self._log.error(
            events.CLAIMS_UNGUARDED,
            policy=self._policy,
            code=error.code,
            error=str(error),
            remedy="effects may repeat until Redis is back (window W5): see docs/reliability.md",
        )
        self._return = asyncio.create_task(self._come_back())

    async def _come_back(self) -> None:
        """Ask once a second, and go home when the primary answers."""
        while self.outage is not None:
            await self._clock.sleep_ms(PROBE_MS)
            try:
                await self._go_home()
            except StoreError as error:
                self._counted(Flag.FAILED, 1)
                if not error.retriable:
                    self._failure = error
            except Exception as error:  # noqa: BLE001 - whoever calls next is told; here nobody listens
                self._failure = error
            if self._failure is not None:
                return

    async def _go_home(self) -> None:
        """Write home what was decided here, first in batches beside the work, then the rest while calls wait."""
        await self._probe()
        while len(self._homeward) > BATCH:
            await self._homeward.write()
        self._open.clear()
        try:
            while len(self._homeward):
                await self._homeward.write()
            await self._versions.write()
            await self._homeward.adopt(unadopted(self._in_hand(), now_ms=self._clock.now_ms()))
            self._arrived()
        finally:
            self._open.set()

    async def _probe(self) -> None:
        """One write and its end, on a key of this object's own: a store that is full answers reads and takes none."""
        nonce = os.urandom(8)
        probe = ClaimRequest(self._probe_key, nonce, NO_FINGERPRINT, b"\0" * 16)
        (answer,) = await self._primary.claim(self._group, [probe], lease_ms=PROBE_MS)
        if answer.status is ClaimStatus.GRANTED:
            let_go = Settlement(self._probe_key, nonce, answer.token, SettleKind.RELEASE)
            await self._primary.settle(self._group, [let_go], ttl_ms=PROBE_MS)

    def _arrived(self) -> None:
        assert self.outage is not None
        ended, self.outage = self.outage, None
        dropped = self._homeward.dropped - ended.dropped_before
        self._log.warning(
            events.CLAIMS_GUARDED,
            policy=self._policy,
            duration_ms=self._clock.now_ms() - ended.started_ms,
            granted=ended.granted,
            written=self._homeward.written - ended.written_before,
            collided=ended.collided,
            dropped=dropped,
        )

    async def stop(self) -> None:
        """Write home what is left, if the store answers in time; what is not is told and counted."""
        if self._return is not None:
            self._return.cancel()
            await asyncio.gather(self._return, return_exceptions=True)
        if self.outage is not None and self._failure is None:
            with contextlib.suppress(BridgeError, TimeoutError):
                async with asyncio.timeout(LONGEST_FAREWELL_S):
                    await self._go_home()
        left = len(self._homeward) + len(self._versions)
        if left:
            self._counted(Flag.DROPPED, left)
            self._log.error(events.CLAIMS_NOT_WRITTEN, count=left)
