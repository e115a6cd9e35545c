"""A store that may be away when the worker starts: it is started, and its checks are made, when it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from structlog.typing import FilteringBoundLogger

from broker_bridge.core.claim import ClaimAnswer, ClaimRequest, ClaimView, Held, Settlement, SettleStatus
from broker_bridge.errors import StoreError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.observability import events


class LateStartStore:
    """An ``IdempotencyStore`` around ``store``, whose ``start`` does not fail while that one is away.

    Every call raises ``StoreError`` until a later ``start`` of the store succeeds, and what that start finds unfit
    (``UnsafeSettingsError``): nothing is claimed in a store that was not checked (I26). ``before_stop`` is awaited, in
    order, before the store is stopped.
    """

    def __init__(self, store: IdempotencyStore, *, log: FilteringBoundLogger) -> None:
        self._store = store
        self._log = log
        self._started = False
        self._starting = asyncio.Lock()
        self.before_stop: list[Callable[[], Awaitable[None]]] = []

    async def start(self) -> None:
        """Start the store, or leave that to the first call that finds it back. Raises ``UnsafeSettingsError``, and
        ``ClaimUnreadableError`` when the epoch's place holds something else."""
        try:
            await self._reach()
        except StoreError as error:
            if not error.retriable:
                raise
            self._log.warning(events.REDIS_LOST, code=error.code, error=str(error))

    async def claim(self, group: str, requests: Sequence[ClaimRequest], *, lease_ms: int) -> list[ClaimAnswer]:
        """See ``IdempotencyStore.claim``."""
        return await (await self._reach()).claim(group, requests, lease_ms=lease_ms)

    async def renew(self, group: str, held: Sequence[Held], *, lease_ms: int) -> list[bool]:
        """See ``IdempotencyStore.renew``."""
        return await (await self._reach()).renew(group, held, lease_ms=lease_ms)

    async def settle(self, group: str, settlements: Sequence[Settlement], *, ttl_ms: int) -> list[SettleStatus]:
        """See ``IdempotencyStore.settle``."""
        return await (await self._reach()).settle(group, settlements, ttl_ms=ttl_ms)

    async def inspect(self, group: str, keys: Sequence[bytes]) -> list[ClaimView | None]:
        """See ``IdempotencyStore.inspect``."""
        return await (await self._reach()).inspect(group, keys)

    async def advance(self, group: str, versions: Mapping[bytes, int], *, ttl_ms: int) -> None:
        """See ``IdempotencyStore.advance``."""
        await (await self._reach()).advance(group, versions, ttl_ms=ttl_ms)

    async def versions(self, group: str, keys: Sequence[bytes]) -> list[int | None]:
        """See ``IdempotencyStore.versions``."""
        return await (await self._reach()).versions(group, keys)

    async def tally(self, name: str, first: int, again: int, *, window_ms: int) -> tuple[int, int]:
        """See ``IdempotencyStore.tally``."""
        return await (await self._reach()).tally(name, first, again, window_ms=window_ms)

    def losses(self) -> int:
        """See ``IdempotencyStore.losses``."""
        return self._store.losses()

    async def stop(self) -> None:
        """See ``IdempotencyStore.stop``."""
        for step in self.before_stop:
            await step()
        await self._store.stop()

    async def _reach(self) -> IdempotencyStore:
        if not self._started:
            async with self._starting:
                if not self._started:
                    await self._store.start()
                    self._started = True
        return self._store
