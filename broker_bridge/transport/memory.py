"""The in-memory transport: a user's own tests run in milliseconds without servers, and so do the simulations.

::

    log = MemoryLog()
    log.create_topic("orders.placed", 4)
    transport = MemoryTransport(clock, log=log)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from broker_bridge.clock import Clock
from broker_bridge.errors import OffsetOutOfRangeError, TransportError
from broker_bridge.message import OutgoingRecord, Position, Record, TopicPartition
from broker_bridge.transport.base import PartitionsHook, TopicSpec
from broker_bridge.transport.memory_consumer import MemoryConsumer
from broker_bridge.transport.memory_group import MemoryGroup
from broker_bridge.transport.memory_log import MemoryLog

__all__ = ["MemoryAdmin", "MemoryConsumer", "MemoryLog", "MemoryProducer", "MemoryReader", "MemoryTransport"]

_READ_BATCH = 500


class MemoryTransport:
    """``Transport`` in memory. Faults are ordered on ``log``; ``evict`` makes a zombie of a group member."""

    def __init__(self, clock: Clock, *, log: MemoryLog | None = None, rebalance_timeout_ms: int = 60_000) -> None:
        self.log = log if log is not None else MemoryLog()
        self._clock = clock
        self._rebalance_timeout_ms = rebalance_timeout_ms

    def consumer(
        self,
        *,
        group: str,
        topics: Sequence[str],
        on_assigned: PartitionsHook | None = None,
        on_revoked: PartitionsHook | None = None,
        member: str | None = None,
    ) -> MemoryConsumer:
        """See ``Transport.consumer``."""
        return MemoryConsumer(self.log, self._clock, self._group(group), topics, on_assigned, on_revoked, member)

    def producer(self, *, delivery_timeout_ms: int = 30_000) -> MemoryProducer:
        """See ``Transport.producer``. Memory answers at once; the deadline is not used."""
        return MemoryProducer(self.log, self._clock)

    def reader(self) -> MemoryReader:
        """See ``Transport.reader``."""
        return MemoryReader(self.log)

    def admin(self) -> MemoryAdmin:
        """See ``Transport.admin``."""
        return MemoryAdmin(self.log)

    def members(self, group: str) -> list[str]:
        """The ids of the group's members now."""
        return self._group(group).members()

    async def evict(self, group: str, member: str) -> None:
        """Take the member's partitions away without ``on_revoked``, as a session timeout would: it becomes a zombie.

        Its commits raise ``LeaseLostError``. On its next ``poll`` it finds out: ``on_revoked`` runs (too late to
        commit) and it joins anew. Returns when the other members have their new partitions.
        """
        await self._group(group).evict(member)

    def _group(self, name: str) -> MemoryGroup:
        return self.log.group(name, self._clock, rebalance_timeout_ms=self._rebalance_timeout_ms)


class MemoryProducer:
    """``BatchProducer`` in memory."""

    def __init__(self, log: MemoryLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._started = False

    async def start(self) -> None:
        """Raises ``TransportError`` while the log is not available."""
        self._log.check_available()
        self._started = True

    async def send_batch(self, records: Sequence[OutgoingRecord]) -> list[Position | TransportError]:
        """See ``BatchProducer.send_batch``."""
        if not self._started:
            raise TransportError("the producer is not started, or was stopped", remedy="call start() first")
        self._log.check_available()
        now_ms = self._clock.now_ms()
        answers = [self._log.append(record, now_ms=now_ms) for record in records]
        self._log.changed()
        slow = self._log.ack_after_ms
        wait_ms = max((slow.get(record.topic, 0) for record in records), default=0) if slow else 0
        await asyncio.sleep(wait_ms / 1000)  # with 0 too: an acknowledgement never comes in the same breath
        return answers

    async def stop(self) -> None:
        """See ``BatchProducer.stop``."""
        self._started = False


class MemoryReader:
    """``LogReader`` in memory."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    async def start(self) -> None:
        """Raises ``TransportError`` while the log is not available."""
        self._log.check_available()

    async def offsets(self, topics: Sequence[str]) -> dict[TopicPartition, tuple[int, int]]:
        """See ``LogReader.offsets``."""
        self._log.check_available()
        return {tp: (part.start, part.end) for topic in topics for tp, part in self._log.partitions(topic)}

    async def offsets_at(self, topics: Sequence[str], *, timestamp_ms: int) -> dict[TopicPartition, int]:
        """See ``LogReader.offsets_at``."""
        self._log.check_available()
        return {
            tp: next((record.offset for record in part.records if record.timestamp_ms >= timestamp_ms), part.end)
            for topic in topics
            for tp, part in self._log.partitions(topic)
        }

    async def read(
        self, start: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]
    ) -> AsyncIterator[list[Record]]:
        """See ``LogReader.read``."""
        for tp, position in start.items():
            stop = end.get(tp, position)
            first = self._log.partition(tp).start
            if position < min(first, stop):
                raise OffsetOutOfRangeError(
                    f"offset {position} is not in the log, which starts at {first}",
                    where=f"{tp.topic}/{tp.partition}/{position}",
                )
            while True:
                self._log.check_available()
                batch = self._log.partition(tp).between(position, stop, _READ_BATCH)
                if not batch:
                    break
                position = batch[-1].offset + 1
                yield batch
                await asyncio.sleep(0)

    async def fetch(self, positions: Sequence[Position]) -> list[Record | None]:
        """See ``LogReader.fetch``."""
        self._log.check_available()
        return [self._log.partition(TopicPartition(at.topic, at.partition)).at(at.offset) for at in positions]

    async def group_offsets(self, group: str, topics: Sequence[str]) -> dict[TopicPartition, int | None]:
        """See ``LogReader.group_offsets``."""
        self._log.check_available()
        stored = self._log.committed.get(group, {})
        return {tp: stored.get(tp) for topic in topics for tp, _ in self._log.partitions(topic)}

    async def stop(self) -> None:
        """See ``LogReader.stop``."""


class MemoryAdmin:
    """``TopicAdmin`` in memory."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    async def start(self) -> None:
        """Raises ``TransportError`` while the log is not available."""
        self._log.check_available()

    async def ensure(self, topics: Sequence[TopicSpec]) -> list[str]:
        """See ``TopicAdmin.ensure``."""
        self._log.check_available()
        for spec in topics:
            count = self._log.partition_count(spec.name)
            if count is not None and count < spec.partitions:
                raise TransportError(f"the topic has {count} partitions, {spec.partitions} are needed", where=spec.name)
        created = [spec for spec in topics if self._log.create_topic(spec.name, spec.partitions)]
        self._log.topic_settings.update({spec.name: spec.settings for spec in created})
        return [spec.name for spec in created]

    async def describe(self, topics: Sequence[str]) -> dict[str, int | None]:
        """See ``TopicAdmin.describe``."""
        self._log.check_available()
        return {topic: self._log.partition_count(topic) for topic in topics}

    async def topics(self) -> list[str]:
        """See ``TopicAdmin.topics``."""
        self._log.check_available()
        return self._log.topics()

    async def broker_count(self) -> int:
        """See ``TopicAdmin.broker_count``."""
        self._log.check_available()
        return 1

    async def settings(self, topic: str) -> Mapping[str, str]:
        """See ``TopicAdmin.settings``."""
        self._log.check_available()
        return self._log.topic_settings.get(topic, {})

    async def unsafe_settings(self, topics: Sequence[str]) -> list[str]:
        """See ``TopicAdmin.unsafe_settings``: memory has no replicas to lose."""
        self._log.check_available()
        return []

    async def stop(self) -> None:
        """See ``TopicAdmin.stop``."""
