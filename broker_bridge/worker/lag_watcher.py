"""How far the group is behind: what the log holds beyond what was committed, looked up every few seconds.

The look is no part of the work: where Kafka does not answer, the last figures stay, and the next look is the remedy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from broker_bridge.errors import TransportError
from broker_bridge.message import TopicPartition
from broker_bridge.observability import events
from broker_bridge.transport.base import GroupConsumer, LogReader
from broker_bridge.worker.partitions import PartitionState
from broker_bridge.worker.pipeline import Pipeline

LOOK_EVERY_MS = 5_000


class LagWatcher:
    """Tells the lag of every partition that is ours, of the source and of the lanes."""

    def __init__(self, pipeline: Pipeline, reader: LogReader, consumer: GroupConsumer) -> None:
        self._p = pipeline
        self._reader = reader
        self._consumer = consumer
        self._connected = False
        self._lags: dict[TopicPartition, int] = {}

    def lag(self, tp: TopicPartition) -> int | None:
        """Records after the committed offset when it was last looked up, None where it was not yet."""
        return self._lags.get(tp)

    def forget(self, states: Iterable[PartitionState]) -> None:
        """These are another worker's to tell of now."""
        for tp in [state.tp for state in states]:
            self._lags.pop(tp, None)
            self._p.metrics.forget_partition(self._p.route.name, tp.topic, tp.partition)

    async def run(self) -> None:
        """Look until cancelled."""
        try:
            while True:
                try:
                    await self._look()
                except TransportError as error:
                    self._p.log.debug(events.KAFKA_LOST, reason="lag not known", code=error.code, error=str(error))
                await asyncio.sleep(LOOK_EVERY_MS / 1000)
        finally:
            await self._reader.stop()

    async def _look(self) -> None:
        ours = [state for state in self._p.assignment.states() if not state.gone]
        if not ours:
            return
        if not self._connected:
            await self._reader.start()
            self._connected = True
        await self._learn_committed([state for state in ours if state.committed is None])
        bounds = await self._reader.offsets(sorted({state.tp.topic for state in ours}))
        for state in ours:
            if not state.gone and state.tp in bounds:
                self._tell(state, *bounds[state.tp])

    async def _learn_committed(self, states: list[PartitionState]) -> None:
        """What earlier owners committed, for those where we have not yet."""
        if not states:
            return
        found = await self._consumer.committed(frozenset(state.tp for state in states))
        for state in states:
            if state.committed is None:
                state.committed = found.get(state.tp)

    def _tell(self, state: PartitionState, start: int, end: int) -> None:
        lag = max(0, end - (start if state.committed is None else max(state.committed, start)))
        self._lags[state.tp] = lag
        self._p.metrics.set_lag(
            self._p.route.name, state.tp.topic, state.tp.partition, lag, watermark_lag=state.watermark.span
        )
