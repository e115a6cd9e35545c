"""Which partitions are fetched now: all of it is decided in one place, so that pausing for one reason never undoes
another.

Polling goes on while everything is paused, so membership of the group is kept. For want of room alone partitions are
paused only once that has lasted: a pause drops what was fetched ahead, and room is made every few milliseconds.
"""

from __future__ import annotations

import asyncio

from broker_bridge.core.circuit_breaker import BreakerState
from broker_bridge.message import TopicPartition
from broker_bridge.observability import events
from broker_bridge.transport.base import GroupConsumer
from broker_bridge.worker.partitions import PartitionState
from broker_bridge.worker.pipeline import Pipeline

PAUSED_BY_BREAKER = "breaker_open"
_LOOK_MS = 1_000
_PATIENCE_MS = 1_000
"""For so long reading simply waits for room."""
_LEAST_SHARE = 8


class FlowControl:
    """Pauses and resumes partitions as the pipeline's state asks."""

    def __init__(self, pipeline: Pipeline, consumer: GroupConsumer) -> None:
        self._p = pipeline
        self._consumer = consumer
        self._paused: frozenset[TopicPartition] = frozenset()
        self._reasons: frozenset[str] = frozenset()
        self.holding = False
        self._full_since_ms: int | None = None

    def apply(self, *, claims_full: bool) -> None:
        """Bring the consumer in line. Called before every poll."""
        self._look_at_breaker()
        self._tell_reasons()
        long_full = self._is_full_for_long(claims_full or not self._has_room())
        nothing = long_full or bool(self._p.paused)
        self.holding = self._full_since_ms is not None and not nothing
        states = [state for state in self._p.assignment.states() if not state.gone]
        wanted = frozenset(state.tp for state in states if nothing or self._waits(state))
        ours = frozenset(state.tp for state in states)
        if wanted - self._paused:
            self._consumer.pause(wanted - self._paused)
        if (self._paused - wanted) & ours:
            self._consumer.resume((self._paused - wanted) & ours)
        self._paused = wanted

    def _has_room(self) -> bool:
        """Room for one record is none: polls that bring a few records each cost most of a whole one."""
        route = self._p.route
        return self._p.room >= max(1, min(route.poll_records, route.max_in_flight // _LEAST_SHARE))

    def _is_full_for_long(self, full: bool) -> bool:
        if not full:
            self._full_since_ms = None
        elif self._full_since_ms is None:
            self._full_since_ms = self._p.ticks_ms
        return self._full_since_ms is not None and self._p.ticks_ms - self._full_since_ms >= _PATIENCE_MS

    def forget(self) -> None:
        """The consumer forgot its pauses, because partitions changed hands."""
        self._paused = frozenset()

    def _waits(self, state: PartitionState) -> bool:
        return not state.ready or bool(state.waiting)

    def _look_at_breaker(self) -> None:
        if self._p.breaker.state(self._p.ticks_ms) is BreakerState.OPEN:
            self._p.paused.add(PAUSED_BY_BREAKER)
        else:
            self._p.paused.discard(PAUSED_BY_BREAKER)

    def _tell_reasons(self) -> None:
        now = frozenset(self._p.paused)
        if now != self._reasons:
            self._p.metrics.set_paused(self._p.route.name, now)
        for reason in self._reasons - now:
            self._p.log.info(events.ROUTE_RESUMED, reason=reason)
        self._reasons = now

    async def watch(self) -> None:
        """Refresh gauges until cancelled."""
        while True:
            self._p.metrics.set_in_flight(self._p.route.name, self._p.in_flight, self._p.in_flight_bytes)
            self._p.metrics.set_parked(self._p.route.name, self._p.assignment.parked)
            await asyncio.sleep(_LOOK_MS / 1000)
