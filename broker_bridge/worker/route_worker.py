"""One route at work: reads, claims, delivers, settles, commits; gains and gives up partitions; drains.

::

    poll ─▶ admission ─▶ claim stage ─▶ key lanes ─▶ slots ─▶ publisher ─▶ settler ─▶ watermark ─▶ committer
                │                          ▲  (one message a key at a time)  │
                └── not due: waits in hand  └────── held, retried in place ───┘
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from broker_bridge.errors import BridgeError, OffsetOutOfRangeError, TransportError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.message import TopicPartition
from broker_bridge.observability import events
from broker_bridge.transport.base import BatchProducer, GroupConsumer, Transport
from broker_bridge.worker.admission import Admission
from broker_bridge.worker.attempt import Attempt
from broker_bridge.worker.budget_keeper import BudgetKeeper
from broker_bridge.worker.cancellation import endless, keep
from broker_bridge.worker.claim_stage import ClaimStage
from broker_bridge.worker.committer import Committer
from broker_bridge.worker.conflict import PayloadComparison
from broker_bridge.worker.flow import FlowControl
from broker_bridge.worker.give_back import give_back
from broker_bridge.worker.lag_watcher import LagWatcher
from broker_bridge.worker.lease_keeper import LeaseKeeper
from broker_bridge.worker.outcome import PAUSED_BY_LIMIT, OutcomePlanner
from broker_bridge.worker.partitions import PartitionState
from broker_bridge.worker.pipeline import Pipeline
from broker_bridge.worker.publisher import Publisher
from broker_bridge.worker.rebuild import ParkedSetRebuild
from broker_bridge.worker.settler import Settler
from broker_bridge.worker.slots import Slots
from broker_bridge.worker.stale_replays import StaleReplays
from broker_bridge.worker.suspects import Suspects
from broker_bridge.worker.targets.base import Target

_POLL_MS = 200
_HOLDING_MS = 20
"""How soon to look again whether there is room."""
_POLL_RETRY_S = 0.5


class RouteWorker:
    """Runs one route until told to stop. Made by ``bootstrap``."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        transport: Transport,
        store: IdempotencyStore,
        target: Target,
        attempt: Attempt,
        comparison: PayloadComparison,
        producer: BatchProducer,
        member: str | None = None,
    ) -> None:
        route = pipeline.route
        self.pipeline = pipeline
        self._store = store
        self._target = target
        self._comparison = comparison
        self._producer = producer
        self._consumer: GroupConsumer = transport.consumer(
            group=route.group,
            topics=[route.topic, *route.lane_names.read(route.retry.lanes_ms)],
            on_assigned=self._gained,
            on_revoked=self._given_up,
            member=member,
        )
        self._admission = Admission(pipeline)
        self._claims = ClaimStage(pipeline, store, comparison)
        stale = StaleReplays(pipeline, store)
        self._slots = Slots(pipeline, attempt, Suspects(pipeline, store), stale)
        planner = OutcomePlanner(pipeline)
        self._settler = Settler(pipeline, planner, store, stale)
        self._publisher = Publisher(pipeline, planner, producer, store, self._settler)
        self._committer = Committer(pipeline, self._consumer)
        self._leases = LeaseKeeper(pipeline, store)
        self._budget = BudgetKeeper(pipeline, store)
        self._lag = LagWatcher(pipeline, transport.reader(), self._consumer)
        self._flow = FlowControl(pipeline, self._consumer)
        self._rebuild = ParkedSetRebuild(pipeline, transport, self._consumer)
        self._stop = asyncio.Event()
        self._joined = False
        self._ended = False

    def stop(self) -> None:
        """Ask for a drain: what is being handled ends, the rest is given back, offsets are committed."""
        self._stop.set()

    def state(self) -> str:
        """In a word or two: ``joining`` its group, ``delivering``, ``standing by`` without partitions, or what
        pauses it."""
        if self.pipeline.paused:
            return "paused: " + ", ".join(sorted(self.pipeline.paused))
        if self.pipeline.assignment.sources():
            return "delivering"
        return "standing by" if self._joined else "joining"

    @property
    def takes_part(self) -> bool:
        """Whether it has joined its group and goes on by itself whatever pauses it: after too many dead letters it does
        not."""
        return self._joined and PAUSED_BY_LIMIT not in self.pipeline.paused

    def details(self) -> dict[str, object]:
        """Counts of what is in hand, and where each partition stands."""
        pipeline = self.pipeline
        return {
            "state": self.state(),
            "in_flight": pipeline.in_flight,
            "in_flight_bytes": pipeline.in_flight_bytes,
            "parked": pipeline.assignment.parked,
            "breaker": pipeline.breaker.state(pipeline.ticks_ms).name.lower(),
            "partitions": {
                f"{state.tp.topic}/{state.tp.partition}": {
                    "committed": state.committed,
                    "watermark": state.watermark.committable,
                    "unsettled": state.watermark.unsettled,
                    "lag": self._lag.lag(state.tp),
                }
                for state in pipeline.assignment.states()
            },
        }

    async def run(self) -> None:
        """Work until ``stop``; returns after the drain. Raises what makes going on impossible."""
        try:
            await self._target.start()
            await self._producer.start()
            async with asyncio.TaskGroup() as group:
                await self._consumer.start()
                self._joined = True
                self.pipeline.log.info(events.ROUTE_STARTED)
                stages = [asyncio.create_task(endless(stage, name)) for name, stage in self._stages()]
                # Asked again not sooner than the slots have given up on a handler: they are ended once.
                patience_s = self.pipeline.route.shutdown.grace_ms / 1000 + 1
                kept = group.create_task(keep(stages, ask_again_s=patience_s))
                await self._read_until_stopped(group)
                await self._drain()
                kept.cancel()
        finally:
            self._ended = True
            await self._close()

    def _stages(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        return [
            ("rebuild", self._rebuild.run()),
            ("claims", self._claims.run()),
            ("slots", self._slots.run()),
            ("publisher", self._publisher.run()),
            ("settler", self._settler.run()),
            ("committer", self._committer.run()),
            ("leases", self._leases.run()),
            ("budget", self._budget.run()),
            ("flow", self._flow.watch()),
            ("lag", self._lag.run()),
        ]

    async def _read_until_stopped(self, group: asyncio.TaskGroup) -> None:
        stopped = group.create_task(self._stop.wait())
        while not stopped.done():
            reading = asyncio.ensure_future(self._read_once())
            try:
                await asyncio.wait((reading, stopped), return_when=asyncio.FIRST_COMPLETED)
            finally:
                reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            if reading.done() and not reading.cancelled() and (error := reading.exception()) is not None:
                await self._poll_failed(error)

    async def _poll_failed(self, error: BaseException) -> None:
        """An outage of Kafka is waited for; an offset that is not in the log stops the route, for skipping would be
        silent loss."""
        if not isinstance(error, TransportError) or isinstance(error, OffsetOutOfRangeError) or not error.retriable:
            raise error
        self.pipeline.log.warning(events.KAFKA_LOST, code=error.code, error=str(error))
        await asyncio.sleep(_POLL_RETRY_S)

    async def _read_once(self) -> None:
        pipeline = self.pipeline
        now_ms = pipeline.ticks_ms
        pipeline.end_long_waits(now_ms)
        due = self._admission.due(now_ms) if not self._claims.full else []
        if due:
            self._claims.submit(due)
        self._flow.apply(claims_full=self._claims.full)
        if self._flow.holding:
            await pipeline.room_made.wait(_HOLDING_MS)
            return
        wanted = min(pipeline.route.poll_records, pipeline.room) if not self._claims.full else 0
        records = await self._consumer.poll(max_records=max(1, wanted), timeout_ms=self._poll_ms(now_ms))
        if not records:
            return
        pipeline.metrics.polled(pipeline.route.name, len(records))
        batch = self._admission.admit(records)
        if batch:
            self._claims.submit(batch)

    def _poll_ms(self, now_ms: int) -> int:
        if self._claims.full or not self.pipeline.room:
            return _HOLDING_MS
        due_ms = self._admission.next_due_ms()
        return _POLL_MS if due_ms is None else min(_POLL_MS, max(1, due_ms - now_ms))

    async def _gained(self, partitions: frozenset[TopicPartition]) -> None:
        if not partitions:
            return
        gained = self.pipeline.assignment.gain(partitions)
        self.pipeline.log.info(
            events.PARTITIONS_ASSIGNED, partitions=[f"{tp.topic}/{tp.partition}" for tp in sorted(partitions)]
        )
        self._flow.forget()
        self._rebuild.submit(gained)

    async def _given_up(self, partitions: frozenset[TopicPartition]) -> None:
        """Nothing of these starts from here on; what runs may end within the drain time, then the watermark is
        committed (I20)."""
        closed = self.pipeline.assignment.close(partitions)
        if not closed:
            return
        self.pipeline.log.info(
            events.PARTITIONS_REVOKED, partitions=[f"{state.tp.topic}/{state.tp.partition}" for state in closed]
        )
        await self._let_go(closed)
        await self._committer.commit(closed)
        self.pipeline.assignment.forget(closed)
        self._lag.forget(closed)

    async def _let_go(self, states: list[PartitionState]) -> None:
        for state in states:
            while state.waiting:
                state.waiting.popleft()
                state.left()
        queued = self.pipeline.lanes.drop(lambda delivery: delivery.part.gone)
        for delivery in queued:
            delivery.queued = False
        unused = queued + self.pipeline.behind.drop(lambda delivery: delivery.part.gone)
        await give_back(self.pipeline, self._store, unused)
        for delivery in unused:
            self.pipeline.retire(delivery, settled=False)
        self.pipeline.asked.wake()
        if self._ended:
            return  # no stage is left that could end anything
        try:
            async with asyncio.timeout(self.pipeline.route.shutdown.drain_ms / 1000):
                for state in states:
                    await state.emptied()
        except TimeoutError:
            left = sum(state.in_flight for state in states)
            self.pipeline.log.warning(events.DRAIN_TIMED_OUT, count=left)

    async def _drain(self) -> None:
        self.pipeline.log.info(events.DRAIN_STARTED, count=self.pipeline.in_flight)
        self.pipeline.closing = True
        states = self.pipeline.assignment.states()
        for state in states:
            state.gone = True
        await self._let_go(states)
        await self._committer.commit(states)
        self.pipeline.assignment.forget(states)
        self._lag.forget(states)

    async def _close(self) -> None:
        for part in (self._consumer, self._producer, self._target, self._comparison):
            try:
                await part.stop()
            except BridgeError as error:
                self.pipeline.log.warning(events.ROUTE_STOPPED, code=error.code, error=str(error))
        self.pipeline.log.info(events.ROUTE_STOPPED)
