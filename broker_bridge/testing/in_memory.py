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
import contextvars
import random
from types import TracebackType
from typing import Any

from broker_bridge.bootstrap import make_worker, open_codec, open_producer
from broker_bridge.bridge import Bridge
from broker_bridge.clock import Clock
from broker_bridge.contracts.codec import Codec
from broker_bridge.core.dead_letter import DeadLetter, read_dead_letter
from broker_bridge.errors import NotFoundError
from broker_bridge.headers import schema_header_of
from broker_bridge.idempotency.memory import MemoryStore
from broker_bridge.message import Record
from broker_bridge.testing.history import History
from broker_bridge.testing.lifeline import WORKER, Interference, Lifeline, StoreLine, TransportLine
from broker_bridge.testing.virtual_time import LoopClock
from broker_bridge.transport.memory import MemoryLog, MemoryTransport
from broker_bridge.worker.supervisor import Worker
from broker_bridge.worker.topics import ensure_lanes, owned_by_users

_LOOK_MS = 50


class RunningWorker:
    """One worker of a world, as one process."""

    def __init__(self, world: InMemoryBridge, line: Lifeline, worker: Worker) -> None:
        self._world = world
        self.line = line
        self.worker = worker
        context = contextvars.copy_context()
        context.run(WORKER.set, line.name)
        self.task = asyncio.create_task(worker.run(), name=line.name, context=context)

    async def stop(self) -> None:
        """Drain, as SIGTERM would. Raises what the worker failed with."""
        self.worker.stop()
        await asyncio.wait((self.task,))
        self._world.workers.pop(self.line.name, None)
        if not self.task.cancelled():  # crashed while it drained
            self.task.result()

    async def crash(self) -> None:
        """End on the spot, as SIGKILL would: nothing is given back, committed or said goodbye to."""
        self.line.cut_off()
        self.task.cancel()
        self._world.workers.pop(self.line.name, None)
        await asyncio.gather(self.task, return_exceptions=True)

    async def evict(self) -> None:
        """Give its partitions to the others while it goes on in the belief that they are its own (a zombie). It finds
        out at its next poll. Returns when the others are served."""
        await self.line.evict()


class InMemoryBridge:
    """Runs the routes of ``bridge`` on a log and a store in memory; the engine is the one that runs on Kafka and Redis.

    ``log`` and ``store`` may be given to outlive one bridge (a crash, a restart) and take faults to order. Topics that
    the routes name are created with ``partitions`` partitions. ``seed`` decides nonces and jitter; ``history`` is told
    what workers do; ``interference`` is asked around each of their calls.
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
        history: History | None = None,
        interference: Interference | None = None,
        codec: Codec | None = None,
    ) -> None:
        self._bridge = bridge
        self._config = bridge.config.model_copy(
            update={"health": bridge.config.health.model_copy(update={"listen": None})}
        )
        self._interference = interference
        self._partitions = partitions
        self.clock: Clock = clock or LoopClock()
        self.log = log or MemoryLog()
        self.store = store or MemoryStore(self.clock)
        self.transport = MemoryTransport(self.clock, log=self.log)
        self.codec = codec or open_codec(bridge.config, routes=bridge.config.routes, waits=False)
        self.producer = open_producer(bridge.config, transport=self.transport, codec=self.codec, clock=self.clock)
        self.history = history
        self.workers: dict[str, RunningWorker] = {}
        self._read_by = [(r.group, [r.topic, *r.lane_names.read(r.retry.lanes_ms)]) for r in bridge.config.routes]
        self._rng = random.Random(seed)  # noqa: S311 - repeatable on purpose

    @property
    def worker(self) -> Worker | None:
        """The worker that was started last, None where none runs."""
        return next(reversed(self.workers.values())).worker if self.workers else None

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
        for running in list(self.workers.values()):
            await running.stop()

    def start_worker(self, name: str = "worker-1", *, clock: Clock | None = None) -> RunningWorker:
        """Start a worker process, so to speak, with a wall clock of its own if need be. Several of different names
        share the work."""
        line = Lifeline(name, self.transport, self.history, self._interference)
        worker = make_worker(
            self._config,
            handlers=self._bridge.handlers,
            transport=TransportLine(line),
            store=StoreLine(line, self.store),
            clock=clock or self.clock,
            rng=self._rng,
            codec=self.codec,
        )
        running = self.workers[name] = RunningWorker(self, line, worker)
        return running

    async def stop_worker(self, name: str = "worker-1") -> None:
        """Drain the worker, as SIGTERM would. Raises what it failed with."""
        if name in self.workers:
            await self.workers[name].stop()

    async def crash_worker(self, name: str = "worker-1") -> None:
        """End the worker on the spot, as SIGKILL would."""
        if name in self.workers:
            await self.workers[name].crash()

    async def settled(self, *, within_ms: int = 600_000) -> None:
        """Wait until every record of every route is settled and committed. Raises ``TimeoutError`` or the worker's
        failure."""
        async with asyncio.timeout(within_ms / 1000):
            while not all(self._is_settled(group, topics) for group, topics in self._read_by):
                for running in self.workers.values():
                    if running.task.done():
                        running.task.result()
                await asyncio.sleep(_LOOK_MS / 1000)

    def _is_settled(self, group: str, topics: list[str]) -> bool:
        committed = self.log.committed.get(group, {})
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
        return [
            None if r.value is None else self.codec.decode(r.value, schema_header=schema_header_of(r.headers)).value
            for r in self.records(topic)
        ]

    def dead_letters(self, route: str) -> list[DeadLetter]:
        """The dead letters of a route. Raises ``NotFoundError``."""
        found = self._bridge.config.route(route)
        if found is None:
            raise NotFoundError(f"there is no route {route!r}")
        return [read_dead_letter(record) for record in self.records(found.lane_names.dead_letter)]
