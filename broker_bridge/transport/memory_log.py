"""A log in memory: topics, partitions, committed offsets, and faults to order.

One ``MemoryLog`` stands for one cluster; several ``MemoryTransport`` objects may share it, as several processes share a
cluster. Everything here is synchronous: one event loop, no threads.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter

from broker_bridge.clock import Clock
from broker_bridge.errors import DeliveryTimeoutError, RecordTooLargeError, TopicMissingError, TransportError
from broker_bridge.message import OutgoingRecord, Position, Record, TopicPartition
from broker_bridge.transport.memory_group import MemoryGroup
from broker_bridge.transport.partitioning import partition_of

_OFFSET = attrgetter("offset")


@dataclass(slots=True)
class MemoryPartition:
    """Records by rising offset; offsets from ``start`` up to ``end``, not all of them need to hold a record."""

    start: int = 0
    end: int = 0
    records: list[Record] = field(default_factory=list)

    def index_of(self, offset: int) -> int:
        """Where in ``records`` the first record at or after ``offset`` is."""
        return bisect_left(self.records, offset, key=_OFFSET)

    def between(self, start: int, end: int, limit: int) -> list[Record]:
        """At most ``limit`` records with start ≤ offset < end."""
        first = self.index_of(start)
        return self.records[first : min(first + limit, self.index_of(end))]

    def at(self, offset: int) -> Record | None:
        """The record with this very offset."""
        index = self.index_of(offset)
        found = self.records[index] if index < len(self.records) else None
        return found if found is not None and found.offset == offset else None


@dataclass(slots=True)
class _Fault:
    """What happens to the next ``left`` records written (to ``topic``, or to any)."""

    left: int
    topic: str | None
    error: TransportError
    written: bool


class MemoryLog:
    """Topics must be created first. ``available = False`` makes every call fail as if no broker answered.

    A user's own tests may order these faults: ``fail_next_sends``, ``lose_next_acks``, ``trim``, ``remove``,
    ``available``, ``ack_after_ms``, and ``MemoryTransport.evict``.
    """

    def __init__(self, *, max_record_bytes: int = 1_048_588) -> None:
        self.available = True
        self.max_record_bytes = max_record_bytes
        self.ack_after_ms: dict[str, int] = {}
        """By topic: how long the acknowledgement of a record takes, and of whatever is sent in one batch with it."""
        self.topic_settings: dict[str, Mapping[str, str]] = {}
        """What topics were created with; nothing acts on it."""
        self.committed: dict[str, dict[TopicPartition, int]] = {}
        self._groups: dict[str, MemoryGroup] = {}
        self._topics: dict[str, list[MemoryPartition]] = {}
        self._faults: list[_Fault] = []
        self._next_keyless = 0
        self._waiters: dict[asyncio.Future[None], None] = {}  # woken in the order they came, in every run

    # -- topics

    def create_topic(self, name: str, partitions: int) -> bool:
        """Create it; False where it already exists (which is left as it is)."""
        if name in self._topics:
            return False
        self._topics[name] = [MemoryPartition() for _ in range(partitions)]
        self.changed()
        return True

    def topics(self) -> list[str]:
        """Every topic, sorted."""
        return sorted(self._topics)

    def partition_count(self, topic: str) -> int | None:
        """Partition count, None where the topic does not exist."""
        found = self._topics.get(topic)
        return len(found) if found is not None else None

    def partitions(self, topic: str) -> Iterator[tuple[TopicPartition, MemoryPartition]]:
        """Each partition of the topic. Raises ``TopicMissingError``."""
        if topic not in self._topics:
            raise TopicMissingError("the topic is not in the memory log", where=topic)
        for index, partition in enumerate(self._topics[topic]):
            yield TopicPartition(topic, index), partition

    def partition(self, tp: TopicPartition) -> MemoryPartition:
        """The partition. Raises ``TopicMissingError`` also where only that partition is missing."""
        found = self._topics.get(tp.topic)
        if found is None or not 0 <= tp.partition < len(found):
            raise TopicMissingError("the partition is not in the memory log", where=f"{tp.topic}/{tp.partition}")
        return found[tp.partition]

    def records(self, topic: str) -> list[Record]:
        """Every record the topic holds now, partition by partition: what a test looks at first."""
        return [record for _, partition in self.partitions(topic) for record in partition.records]

    # -- groups

    def group(self, name: str, clock: Clock, *, rebalance_timeout_ms: int) -> MemoryGroup:
        """The group of that name; made with this clock and timeout where it is new."""
        if name not in self._groups:
            self._groups[name] = MemoryGroup(name, self, clock, rebalance_timeout_ms=rebalance_timeout_ms)
        return self._groups[name]

    # -- writing

    def append(self, outgoing: OutgoingRecord, *, now_ms: int) -> Position | TransportError:
        """Write one record, or answer what an ordered fault, its size or its topic say against it."""
        fault = self._fault_for(outgoing.topic)
        if fault is not None and not fault.written:
            return fault.error
        refused = self._refusal(outgoing)
        if refused is not None:
            return refused
        position = self._write(outgoing, now_ms)
        return position if fault is None else fault.error

    def _refusal(self, outgoing: OutgoingRecord) -> TransportError | None:
        size = len(outgoing.value or b"") + len(outgoing.key or b"")
        size += sum(len(name) + len(value or b"") for name, value in outgoing.headers)
        if size > self.max_record_bytes:
            return RecordTooLargeError(
                f"the record has {size} bytes, the log takes {self.max_record_bytes}", where=outgoing.topic
            )
        count = self.partition_count(outgoing.topic)
        if count is None or (outgoing.partition is not None and not 0 <= outgoing.partition < count):
            return TopicMissingError("the topic or partition is not in the memory log", where=outgoing.topic)
        return None

    def _write(self, outgoing: OutgoingRecord, now_ms: int) -> Position:
        topic = self._topics[outgoing.topic]
        index = outgoing.partition
        if index is None and outgoing.key is not None:
            index = partition_of(outgoing.key, len(topic))
        elif index is None:
            index = self._next_keyless % len(topic)
            self._next_keyless += 1
        partition = topic[index]
        timestamp_ms = outgoing.timestamp_ms if outgoing.timestamp_ms is not None else now_ms
        partition.records.append(
            Record(
                outgoing.topic,
                index,
                partition.end,
                timestamp_ms,
                outgoing.key,
                outgoing.value,
                tuple(outgoing.headers),
            )
        )
        partition.end += 1
        return Position(outgoing.topic, index, partition.end - 1)

    # -- faults

    def fail_next_sends(self, count: int, error: TransportError, *, topic: str | None = None) -> None:
        """The next ``count`` records (of that topic) are not written and answer ``error``."""
        self._faults.append(_Fault(count, topic, error, written=False))

    def lose_next_acks(self, count: int, *, topic: str | None = None) -> None:
        """The next ``count`` records (of that topic) are written but answer ``DeliveryTimeoutError``."""
        error = DeliveryTimeoutError("the acknowledgement was lost on the way (ordered fault)")
        self._faults.append(_Fault(count, topic, error, written=True))

    def trim(self, tp: TopicPartition, *, before: int) -> None:
        """Drop what is before this offset, as retention would."""
        partition = self.partition(tp)
        partition.start = max(partition.start, min(before, partition.end))
        del partition.records[: partition.index_of(partition.start)]

    def remove(self, position: Position) -> None:
        """Drop one record and leave a hole, as compaction would."""
        partition = self.partition(TopicPartition(position.topic, position.partition))
        index = partition.index_of(position.offset)
        if index < len(partition.records) and partition.records[index].offset == position.offset:
            del partition.records[index]

    def check_available(self) -> None:
        """Raise ``TransportError`` while ``available`` is false."""
        if not self.available:
            raise TransportError("the memory log is switched off (ordered fault)")

    def _fault_for(self, topic: str) -> _Fault | None:
        for fault in self._faults:
            if fault.topic is None or fault.topic == topic:
                fault.left -= 1
                if fault.left <= 0:
                    self._faults.remove(fault)
                return fault
        return None

    # -- waiting

    def changed(self) -> None:
        """Wake whoever waits for records or partitions."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def wait_for_change(self, clock: Clock, *, timeout_ms: float) -> None:
        """Return on the next change, or after ``timeout_ms`` of ``clock``."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        timer = asyncio.ensure_future(clock.sleep_ms(timeout_ms))
        try:
            await asyncio.wait({waiter, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiters.pop(waiter, None)
            waiter.cancel()
            timer.cancel()
