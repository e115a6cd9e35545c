"""A whole bridge in memory, for a user's own tests of handlers: no servers, and with ``run_virtual`` no waiting either.

::

    def test_a_declined_card_is_dead_lettered() -> None:
        async def scenario() -> None:
            async with InMemoryBridge(bridge) as world:
                await world.producer.send("orders.placed", order, key="c1", contract="shop.OrderPlaced")
                await world.settled()
                assert [letter.failure.code for letter in world.dead_letters("billing")] == ["target_rejected"]

        run_virtual(scenario())
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from broker_bridge.bootstrap import make_worker, open_codec, open_producer
from broker_bridge.bridge import Bridge
from broker_bridge.clock import Clock
from broker_bridge.config import RouteConfig
from broker_bridge.core.claim import ClaimAnswer, ClaimRequest, ClaimView, Held, Settlement, SettleStatus
from broker_bridge.core.dead_letter import DeadLetter, read_dead_letter
from broker_bridge.errors import NotFoundError, StoreError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.idempotency.memory import MemoryStore
from broker_bridge.message import Record
from broker_bridge.testing.virtual_time import LoopClock
from broker_bridge.transport.memory import MemoryLog, MemoryTransport
from broker_bridge.worker.supervisor import Worker
from broker_bridge.worker.topics import ensure_lanes, owned_by_users

_LOOK_MS = 20


class _Lifeline:
    """A worker's connection to the store. Once cut nothing of that worker reaches the store, as after a crash."""

    def __init__(self, store: IdempotencyStore) -> None:
        self._store = store
        self.cut = False

    def _reach(self) -> IdempotencyStore:
        if self.cut:
            raise StoreError("the worker has crashed")
        return self._store

    async def start(self) -> None:
        await self._reach().start()

    async def claim(self, group: str, requests: Sequence[ClaimRequest], *, lease_ms: int) -> list[ClaimAnswer]:
        return await self._reach().claim(group, requests, lease_ms=lease_ms)

    async def renew(self, group: str, held: Sequence[Held], *, lease_ms: int) -> list[bool]:
        return await self._reach().renew(group, held, lease_ms=lease_ms)

    async def settle(self, group: str, settlements: Sequence[Settlement], *, ttl_ms: int) -> list[SettleStatus]:
        return await self._reach().settle(group, settlements, ttl_ms=ttl_ms)

    async def inspect(self, group: str, keys: Sequence[bytes]) -> list[ClaimView | None]:
        return await self._reach().inspect(group, keys)

    async def stop(self) -> None:
        """The store outlives its workers."""


class InMemoryBridge:
    """Runs the routes of ``bridge`` on a log and a store in memory; the engine is the one that runs on Kafka and Redis.

    ``log`` and ``store`` may be given to outlive one bridge (a crash, a restart) and take faults to order. Topics
    that the routes name
    are created with ``partitions`` partitions. ``seed`` decides nonces and jitter.
    """

    def __init__(
        self,
        bridge: Bridge,
        *,
        partitions: int = 4,
        log: MemoryLog | None = None,
        store: MemoryStore | None = None,
        clock: Clock | None = None,
        seed: int = 1,
    ) -> None:
        self._bridge = bridge
        self._partitions = partitions
        self.clock: Clock = clock or LoopClock()
        self.log = log or MemoryLog()
        self.store = store or MemoryStore(self.clock)
        self.transport = MemoryTransport(self.clock, log=self.log)
        self.codec = open_codec(bridge.config)
        self.producer = open_producer(bridge.config, transport=self.transport, codec=self.codec, clock=self.clock)
        self._rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self.worker: Worker | None = None
        self._running: asyncio.Task[None] | None = None
        self._lifeline: _Lifeline | None = None

    async def __aenter__(self) -> InMemoryBridge:
        admin = self.transport.admin()
        await admin.start()
        for route in self._bridge.config.routes:
            for topic in owned_by_users(route):
                self.log.create_topic(topic, self._partitions)
            await ensure_lanes(admin, route, replication=1)
        await self.producer.start()
        self.start_worker()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.producer.stop()
        await self.stop_worker()

    def start_worker(self) -> Worker:
        """Start a worker process, so to speak."""
        self._lifeline = _Lifeline(self.store)
        self.worker = make_worker(
            self._bridge.config.model_copy(
                update={"health": self._bridge.config.health.model_copy(update={"listen": None})}
            ),
            handlers=self._bridge.handlers,
            transport=self.transport,
            store=self._lifeline,
            clock=self.clock,
            rng=self._rng,
        )
        self._running = asyncio.create_task(self.worker.run())
        return self.worker

    async def stop_worker(self) -> None:
        """Drain the worker, as SIGTERM would. Raises what it failed with."""
        if self.worker is not None and self._running is not None:
            self.worker.stop()
            await self._running
            self.worker, self._running = None, None

    async def crash_worker(self) -> None:
        """End the worker on the spot, as SIGKILL would: nothing is given back, committed or said goodbye to."""
        if self._running is not None and self._lifeline is not None:
            self._lifeline.cut = True
            for route in self._bridge.config.routes:
                for member in self.transport.members(route.group):
                    await self.transport.evict(route.group, member)
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            self.worker, self._running = None, None

    async def settled(self, *, within_ms: int = 600_000) -> None:
        """Wait until every record of every route is settled and committed. Raises ``TimeoutError`` or the worker's
        failure."""
        async with asyncio.timeout(within_ms / 1000):
            while not all(self._is_settled(route) for route in self._bridge.config.routes):
                if self._running is not None and self._running.done():
                    self._running.result()
                await asyncio.sleep(_LOOK_MS / 1000)

    def _is_settled(self, route: RouteConfig) -> bool:
        committed = self.log.committed.get(route.group, {})
        topics = [route.topic, *route.lane_names.read(route.retry.lanes_ms)]
        return all(
            partition.end == partition.start or committed.get(tp, 0) >= partition.end
            for topic in topics
            for tp, partition in self.log.partitions(topic)
        )

    def records(self, topic: str) -> list[Record]:
        """Every record of a topic, partition by partition."""
        return self.log.records(topic)

    def values(self, topic: str) -> list[dict[str, Any] | None]:
        """The decoded values of a topic, partition by partition."""
        return [None if r.value is None else self.codec.decode(r.value).value for r in self.records(topic)]

    def dead_letters(self, route: str) -> list[DeadLetter]:
        """The dead letters of a route. Raises ``NotFoundError``."""
        found = self._bridge.config.route(route)
        if found is None:
            raise NotFoundError(f"there is no route {route!r}")
        return [read_dead_letter(record) for record in self.records(found.lane_names.dead_letter)]
