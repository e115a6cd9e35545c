"""Stores to be examined, each with a way to let its time pass."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

from redis.asyncio import Redis

from broker_bridge.core.claim import StoredClaim
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.idempotency.memory import MemoryStore
from broker_bridge.idempotency.redis import RedisStore

WAIT_DEADLINE_S = 10.0
PLANTED_MS = 60_000


class Lab(Protocol):
    """A started store, a group name nobody else uses, and the store's time."""

    store: IdempotencyStore
    group: str

    async def now_ms(self) -> int:
        """The store's clock."""

    async def wait_until(self, at_ms: int) -> None:
        """Return when the store's clock says ``at_ms`` or later."""

    async def lose_everything(self) -> None:
        """Whatever the store keeps is gone (window W3)."""

    async def plant(self, key: bytes, stored: StoredClaim) -> None:
        """Put a claim there, behind the store's back."""


class HandClock:
    """A clock that only moves when told."""

    def __init__(self, at_ms: int = 1_700_000_000_000) -> None:
        self.at_ms = at_ms

    def now_ms(self) -> int:
        return self.at_ms

    async def sleep_ms(self, delay_ms: float) -> None:
        self.at_ms += int(delay_ms)


class MemoryLab:
    """A memory store (or one broken on purpose) on a clock moved by hand."""

    def __init__(self, kind: type[MemoryStore] = MemoryStore, group: str = "payments") -> None:
        self.clock = HandClock()
        self.memory = kind(self.clock)
        self.store: IdempotencyStore = self.memory
        self.group = group

    async def now_ms(self) -> int:
        return self.clock.at_ms

    async def wait_until(self, at_ms: int) -> None:
        self.clock.at_ms = max(self.clock.at_ms, at_ms)

    async def lose_everything(self) -> None:
        self.memory.forget_all()

    async def plant(self, key: bytes, stored: StoredClaim) -> None:
        self.memory._write(self.group, key, stored, PLANTED_MS)


class RedisLab:
    """A store on a real Redis; ``raw`` is a connection beside it."""

    def __init__(self, store: IdempotencyStore, raw: Redis, group: str) -> None:
        self.store = store
        self.raw: Any = raw  # redis-py types its replies loosely
        self.group = group

    async def now_ms(self) -> int:
        seconds, micros = await self.raw.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def wait_until(self, at_ms: int) -> None:
        deadline = time.monotonic() + WAIT_DEADLINE_S
        while await self.now_ms() < at_ms:
            assert time.monotonic() < deadline, f"Redis' clock did not reach {at_ms} within {WAIT_DEADLINE_S} s"
            await asyncio.sleep(0.002)

    async def lose_everything(self) -> None:
        await self.raw.flushall()

    async def plant(self, key: bytes, stored: StoredClaim) -> None:
        assert isinstance(self.store, RedisStore)
        await self.raw.set(self.store._key(self.group, key), stored.encode(), px=PLANTED_MS)
