"""Rebuilding the parked set when partitions are gained: who waits in the retry lanes, before anything of the source
may run.

::

    old owner                      log                          new owner
    m1 fails ── copy to lane ──▶   lane: m1
    dies                                                        gains source p and lane p
                                                                reads lane p from committed to end: m1's key is parked
                                   source: m2 (same key) ────▶  m2 parks behind m1 instead of overtaking it

A copy that the old owner still writes after this look is harmless: its source record was not committed, so it is read
here too, and the claim lets only one of the two run.
"""

from __future__ import annotations

from collections import deque

from broker_bridge import headers as h
from broker_bridge.core.retry import backoff_ms
from broker_bridge.errors import TransportError
from broker_bridge.message import Record, TopicPartition
from broker_bridge.observability import events
from broker_bridge.transport.base import GroupConsumer, Transport
from broker_bridge.worker.partitions import PartitionState
from broker_bridge.worker.pipeline import Pipeline
from broker_bridge.worker.signal import WorkSignal


class ParkedSetRebuild:
    """Reads the lanes outside the group, from what the group committed to their end."""

    def __init__(self, pipeline: Pipeline, transport: Transport, consumer: GroupConsumer) -> None:
        self._p = pipeline
        self._transport = transport
        self._consumer = consumer
        self._gained: deque[list[PartitionState]] = deque()
        self._arrived = WorkSignal()

    def submit(self, gained: list[PartitionState]) -> None:
        """These next. What was gained before is gone by then: every rebalance takes everything."""
        self._gained.append(gained)
        self._arrived.wake()

    async def run(self) -> None:
        """Rebuild for what is gained, until cancelled."""
        while True:
            if self._gained:
                await self._rebuild(self._gained.popleft())
            else:
                await self._arrived.wait()

    async def _rebuild(self, gained: list[PartitionState]) -> None:
        """Fill the parked sets of ``gained`` and let their source partitions be read. Tries until it succeeds or
        they are gone."""
        lanes = {state.tp: state for state in gained if state.lane >= 0}
        failures = 0
        while not all(state.gone for state in gained):
            try:
                found = await self._read(lanes) if lanes and self._p.route.order == "key" else 0
            except TransportError as error:
                failures += 1
                self._p.log.warning(
                    events.KAFKA_LOST, reason="parked set not rebuilt", code=error.code, error=str(error)
                )
                await self._arrived.wait(
                    backoff_ms(failures, base_ms=100, max_ms=2_000, jitter=0.5, chance=self._p.rng.random())
                )
            else:
                for state in gained:
                    state.ready = True
                self._p.log.info(events.PARKED_SET_REBUILT, count=found, partitions=len(gained))
                return

    async def _read(self, lanes: dict[TopicPartition, PartitionState]) -> int:
        reader = self._transport.reader()
        await reader.start()
        found = 0
        try:
            # From where this consumer reads, not from what the group is said to have committed: a record that is
            # parked here and never comes would hold its key for ever.
            start = await self._consumer.positions(frozenset(lanes))
            bounds = await reader.offsets(sorted({tp.topic for tp in lanes}))
            end = {tp: bounds[tp][1] for tp in lanes if bounds[tp][1] > start[tp]}
            async for batch in reader.read({tp: start[tp] for tp in end}, end):
                for record in batch:
                    found += self._park(record, lanes)
        finally:
            await reader.stop()
        return found

    def _park(self, record: Record, lanes: dict[TopicPartition, PartitionState]) -> int:
        if record.key is None:
            return 0
        state = lanes[TopicPartition(record.topic, record.partition)]
        due_ms = h.int_of(record.headers, h.DUE_MS, 0)
        state.parked.park(record.key, state.origin_of(record).offset, state.lane, due_ms=due_ms)
        return 1
