"""One worker's connections to the log and the store, to be cut, held up and watched: several workers share one world.

A crash cuts them: nothing of that worker reaches the log or the store any more, whatever its code still tries while it
is torn down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextvars import ContextVar

from broker_bridge.core.claim import ClaimAnswer, ClaimRequest, ClaimView, Held, Settlement, SettleStatus
from broker_bridge.errors import StoreError, TransportError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.message import OutgoingRecord, Position, Record, TopicPartition
from broker_bridge.testing.history import Assigned, Committed, History, Revoked
from broker_bridge.transport.base import BatchProducer, GroupConsumer, LogReader, PartitionsHook, TopicAdmin
from broker_bridge.transport.memory import MemoryTransport
from broker_bridge.transport.memory_consumer import MemoryConsumer

WORKER: ContextVar[str] = ContextVar("worker", default="")
"""The name of the worker on whose behalf code runs: for handlers that note who called them."""


class Lifeline:
    """What one worker is connected by. ``polling`` is cleared to hold its polls up, ``store_away`` set to keep the
    store from it alone."""

    def __init__(self, name: str, transport: MemoryTransport, history: History | None) -> None:
        self.name = name
        self.cut = False
        self.store_away = False
        self.transport = transport
        self.history = history
        self.members: list[tuple[str, str]] = []
        self.polling = asyncio.Event()
        self.polling.set()

    def check_log(self) -> None:
        """Raise ``TransportError`` once cut."""
        if self.cut:
            raise TransportError("the worker has crashed")

    async def evict(self) -> None:
        """Take the worker's partitions away without telling it, as a session timeout would."""
        for group, member in self.members:
            if member in self.transport.members(group):
                await self.transport.evict(group, member)


class StoreLine:
    """An ``IdempotencyStore`` for one worker."""

    def __init__(self, line: Lifeline, store: IdempotencyStore) -> None:
        self._line = line
        self._store = store

    def _reach(self) -> IdempotencyStore:
        if self._line.cut:
            raise StoreError("the worker has crashed")
        if self._line.store_away:
            raise StoreError("this worker cannot reach the store")
        return self._store

    async def start(self) -> None:
        """See ``IdempotencyStore.start``."""
        await self._reach().start()

    async def claim(self, group: str, requests: Sequence[ClaimRequest], *, lease_ms: int) -> list[ClaimAnswer]:
        """See ``IdempotencyStore.claim``."""
        return await self._reach().claim(group, requests, lease_ms=lease_ms)

    async def renew(self, group: str, held: Sequence[Held], *, lease_ms: int) -> list[bool]:
        """See ``IdempotencyStore.renew``."""
        return await self._reach().renew(group, held, lease_ms=lease_ms)

    async def settle(self, group: str, settlements: Sequence[Settlement], *, ttl_ms: int) -> list[SettleStatus]:
        """See ``IdempotencyStore.settle``."""
        return await self._reach().settle(group, settlements, ttl_ms=ttl_ms)

    async def inspect(self, group: str, keys: Sequence[bytes]) -> list[ClaimView | None]:
        """See ``IdempotencyStore.inspect``."""
        return await self._reach().inspect(group, keys)

    async def tally(self, name: str, first: int, again: int, *, window_ms: int) -> tuple[int, int]:
        """See ``IdempotencyStore.tally``."""
        return await self._reach().tally(name, first, again, window_ms=window_ms)

    def losses(self) -> int:
        """See ``IdempotencyStore.losses``."""
        return self._store.losses()

    async def stop(self) -> None:
        """The store outlives its workers."""


class ConsumerLine:
    """A ``GroupConsumer`` for one worker."""

    def __init__(self, line: Lifeline, consumer: MemoryConsumer) -> None:
        self._line = line
        self._consumer = consumer

    async def start(self) -> None:
        """See ``GroupConsumer.start``."""
        await self._consumer.start()

    async def poll(self, *, max_records: int, timeout_ms: int) -> list[Record]:
        """See ``GroupConsumer.poll``."""
        await self._line.polling.wait()
        self._line.check_log()
        return await self._consumer.poll(max_records=max_records, timeout_ms=timeout_ms)

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See ``GroupConsumer.commit``."""
        self._line.check_log()
        await self._consumer.commit(offsets)
        if self._line.history is not None:
            self._line.history.add(Committed(self._line.name, dict(offsets)))

    def pause(self, partitions: frozenset[TopicPartition]) -> None:
        """See ``GroupConsumer.pause``."""
        self._consumer.pause(partitions)

    def resume(self, partitions: frozenset[TopicPartition]) -> None:
        """See ``GroupConsumer.resume``."""
        self._consumer.resume(partitions)

    def assignment(self) -> frozenset[TopicPartition]:
        """See ``GroupConsumer.assignment``."""
        return self._consumer.assignment()

    async def committed(self, partitions: frozenset[TopicPartition]) -> dict[TopicPartition, int | None]:
        """See ``GroupConsumer.committed``."""
        self._line.check_log()
        return await self._consumer.committed(partitions)

    async def positions(self, partitions: frozenset[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._consumer.positions(partitions)

    async def stop(self) -> None:
        """See ``GroupConsumer.stop``."""
        await self._consumer.stop()


class ProducerLine:
    """A ``BatchProducer`` for one worker."""

    def __init__(self, line: Lifeline, producer: BatchProducer) -> None:
        self._line = line
        self._producer = producer

    async def start(self) -> None:
        """See ``BatchProducer.start``."""
        await self._producer.start()

    async def send_batch(self, records: Sequence[OutgoingRecord]) -> list[Position | TransportError]:
        """See ``BatchProducer.send_batch``."""
        self._line.check_log()
        return await self._producer.send_batch(records)

    async def stop(self) -> None:
        """See ``BatchProducer.stop``."""
        await self._producer.stop()


class TransportLine:
    """A ``Transport`` for one worker; notes what the group gives it and takes from it."""

    def __init__(self, line: Lifeline) -> None:
        self._line = line

    def consumer(
        self,
        *,
        group: str,
        topics: Sequence[str],
        on_assigned: PartitionsHook | None = None,
        on_revoked: PartitionsHook | None = None,
        member: str | None = None,
    ) -> GroupConsumer:
        """See ``Transport.consumer``."""
        line = self._line

        async def assigned(partitions: frozenset[TopicPartition]) -> None:
            if line.history is not None:
                line.history.add(Assigned(line.name, partitions))
            if on_assigned is not None:
                await on_assigned(partitions)

        async def revoked(partitions: frozenset[TopicPartition]) -> None:
            try:
                if on_revoked is not None:
                    await on_revoked(partitions)
            finally:
                if line.history is not None:
                    line.history.add(Revoked(line.name, partitions))

        made = line.transport.consumer(
            group=group, topics=topics, on_assigned=assigned, on_revoked=revoked, member=member
        )
        line.members.append((group, made.member_id))
        return ConsumerLine(line, made)

    def producer(self, *, delivery_timeout_ms: int = 30_000) -> BatchProducer:
        """See ``Transport.producer``."""
        return ProducerLine(self._line, self._line.transport.producer(delivery_timeout_ms=delivery_timeout_ms))

    def reader(self) -> LogReader:
        """See ``Transport.reader``."""
        return self._line.transport.reader()

    def admin(self) -> TopicAdmin:
        """See ``Transport.admin``."""
        return self._line.transport.admin()
