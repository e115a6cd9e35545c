"""One worker's connections to the log and the store, to be cut, held up and watched: several workers share one world.

A crash cuts them: nothing of that worker reaches the log or the store any more, whatever its code still tries while it
is torn down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Protocol, TypeVar

from broker_bridge.core.claim import ClaimAnswer, ClaimRequest, ClaimView, Held, Settlement, SettleStatus
from broker_bridge.errors import LeaseLostError, StoreError, TransportError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.message import OutgoingRecord, Position, Record, TopicPartition
from broker_bridge.testing.history import Assigned, Committed, Crashed, History, Revoked, StoreAnswered, StoreSilent
from broker_bridge.transport.base import BatchProducer, GroupConsumer, LogReader, PartitionsHook, TopicAdmin
from broker_bridge.transport.memory import MemoryTransport
from broker_bridge.transport.memory_consumer import MemoryConsumer

WORKER: ContextVar[str] = ContextVar("worker", default="")
"""The name of the worker on whose behalf code runs: for handlers that note who called them."""


T = TypeVar("T")


class Interference(Protocol):
    """What may happen to a worker around each of its calls to the log and the store: it waits, or it is cut off."""

    async def before(self, line: Lifeline, call: str) -> None:
        """Before the call is applied."""

    async def after(self, line: Lifeline, call: str) -> None:
        """After it was applied, and before its caller learns of that."""


class Lifeline:
    """What one worker is connected by. ``polling`` is cleared to hold its polls up, ``store_away`` set to keep the
    store from it alone. ``lingers`` says that the group is not told when the worker is cut off, as after SIGKILL."""

    def __init__(
        self,
        name: str,
        transport: MemoryTransport,
        history: History | None,
        interference: Interference | None = None,
    ) -> None:
        self.name = name
        self.cut = False
        self.lingers = False
        self.store_away = False
        self.transport = transport
        self.history = history
        self.members: list[tuple[str, str]] = []
        self.polling = asyncio.Event()
        self.polling.set()
        self._interference = interference
        self._store_silent = False

    def cut_off(self) -> None:
        """The worker is dead from here on; what it still tries is refused, and what it waits for ends."""
        if not self.cut:
            self.cut = True
            self.polling.set()
            if self.history is not None:
                self.history.add(Crashed(self.name))

    def check_log(self) -> None:
        """Raise ``TransportError`` once cut."""
        if self.cut:
            raise TransportError("the worker has crashed")

    def check_store(self) -> None:
        """Raise ``StoreError`` where the store cannot be reached from here."""
        if self.cut:
            raise StoreError("the worker has crashed")
        if self.store_away:
            raise StoreError("this worker cannot reach the store")

    async def before(self, call: str) -> None:
        """Let happen what happens before a call is applied."""
        if self._interference is not None and not self.cut:
            await self._interference.before(self, call)

    async def after(self, call: str) -> None:
        """Let happen what happens before a call's answer arrives."""
        if self._interference is not None and not self.cut:
            await self._interference.after(self, call)

    async def ask_log(self, call: str, apply: Callable[[], Awaitable[T]]) -> T:
        """A call to the log, with what happens on the way."""
        await self.before(call)
        self.check_log()
        answer = await apply()
        await self.after(call)
        self.check_log()
        return answer

    async def ask_store(self, call: str, apply: Callable[[], Awaitable[T]]) -> T:
        """A call to the store, with what happens on the way. Notes when the store falls silent and answers again."""
        try:
            await self.before(call)
            self.check_store()
            answer = await apply()
            await self.after(call)
            self.check_store()
        except StoreError:
            self._note_store(silent=True)
            raise
        self._note_store(silent=False)
        return answer

    def _note_store(self, *, silent: bool) -> None:
        if self.history is not None and silent is not self._store_silent and not self.cut:
            self._store_silent = silent
            self.history.add(StoreSilent(self.name) if silent else StoreAnswered(self.name))

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

    async def start(self) -> None:
        """See ``IdempotencyStore.start``."""
        await self._line.ask_store("start", self._store.start)

    async def claim(self, group: str, requests: Sequence[ClaimRequest], *, lease_ms: int) -> list[ClaimAnswer]:
        """See ``IdempotencyStore.claim``."""
        return await self._line.ask_store("claim", lambda: self._store.claim(group, requests, lease_ms=lease_ms))

    async def renew(self, group: str, held: Sequence[Held], *, lease_ms: int) -> list[bool]:
        """See ``IdempotencyStore.renew``."""
        return await self._line.ask_store("renew", lambda: self._store.renew(group, held, lease_ms=lease_ms))

    async def settle(self, group: str, settlements: Sequence[Settlement], *, ttl_ms: int) -> list[SettleStatus]:
        """See ``IdempotencyStore.settle``."""
        return await self._line.ask_store("settle", lambda: self._store.settle(group, settlements, ttl_ms=ttl_ms))

    async def inspect(self, group: str, keys: Sequence[bytes]) -> list[ClaimView | None]:
        """See ``IdempotencyStore.inspect``."""
        return await self._line.ask_store("inspect", lambda: self._store.inspect(group, keys))

    async def advance(self, group: str, versions: Mapping[bytes, int], *, ttl_ms: int) -> None:
        """See ``IdempotencyStore.advance``."""
        await self._line.ask_store("advance", lambda: self._store.advance(group, versions, ttl_ms=ttl_ms))

    async def versions(self, group: str, keys: Sequence[bytes]) -> list[int | None]:
        """See ``IdempotencyStore.versions``."""
        return await self._line.ask_store("versions", lambda: self._store.versions(group, keys))

    async def tally(self, name: str, first: int, again: int, *, window_ms: int) -> tuple[int, int]:
        """See ``IdempotencyStore.tally``."""
        return await self._line.ask_store("tally", lambda: self._store.tally(name, first, again, window_ms=window_ms))

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
        await self._line.before("poll")  # not after it: what was fetched must not outlive a rebalance
        self._line.check_log()
        return await self._consumer.poll(max_records=max_records, timeout_ms=timeout_ms)

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See ``GroupConsumer.commit``. One that is under way while the group rebalances is refused."""
        generation = self._consumer.generation

        async def apply() -> None:
            if self._consumer.generation != generation:
                raise LeaseLostError("the group has rebalanced since the commit was sent")
            await self._consumer.commit(offsets)
            if self._line.history is not None:
                self._line.history.add(Committed(self._line.name, dict(offsets)))

        await self._line.ask_log("commit", apply)

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
        return await self._line.ask_log("committed", lambda: self._consumer.committed(partitions))

    async def positions(self, partitions: frozenset[TopicPartition]) -> dict[TopicPartition, int]:
        """See ``GroupConsumer.positions``."""
        return await self._line.ask_log("positions", lambda: self._consumer.positions(partitions))

    async def stop(self) -> None:
        """See ``GroupConsumer.stop``. One that crashed says no goodbye where it ``lingers``."""
        if not (self._line.cut and self._line.lingers):
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
        return await self._line.ask_log("send", lambda: self._producer.send_batch(records))

    async def stop(self) -> None:
        """See ``BatchProducer.stop``."""
        await self._producer.stop()


class ReaderLine:
    """A ``LogReader`` for one worker."""

    def __init__(self, line: Lifeline, reader: LogReader) -> None:
        self._line = line
        self._reader = reader

    async def start(self) -> None:
        """See ``LogReader.start``."""
        await self._line.ask_log("start", self._reader.start)

    async def offsets(self, topics: Sequence[str]) -> dict[TopicPartition, tuple[int, int]]:
        """See ``LogReader.offsets``."""
        return await self._line.ask_log("offsets", lambda: self._reader.offsets(topics))

    async def offsets_at(self, topics: Sequence[str], *, timestamp_ms: int) -> dict[TopicPartition, int]:
        """See ``LogReader.offsets_at``."""
        return await self._line.ask_log("offsets", lambda: self._reader.offsets_at(topics, timestamp_ms=timestamp_ms))

    async def read(
        self, start: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]
    ) -> AsyncIterator[list[Record]]:
        """See ``LogReader.read``."""
        await self._line.before("read")
        self._line.check_log()
        async for batch in self._reader.read(start, end):
            await self._line.after("read")
            self._line.check_log()
            yield batch

    async def fetch(self, positions: Sequence[Position]) -> list[Record | None]:
        """See ``LogReader.fetch``."""
        return await self._line.ask_log("fetch", lambda: self._reader.fetch(positions))

    async def group_offsets(self, group: str, topics: Sequence[str]) -> dict[TopicPartition, int | None]:
        """See ``LogReader.group_offsets``."""
        return await self._line.ask_log("offsets", lambda: self._reader.group_offsets(group, topics))

    async def stop(self) -> None:
        """See ``LogReader.stop``."""
        await self._reader.stop()


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
        return ReaderLine(self._line, self._line.transport.reader())

    def admin(self) -> TopicAdmin:
        """See ``Transport.admin``."""
        return self._line.transport.admin()
