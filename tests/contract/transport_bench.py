"""A bench to examine a transport on: topics and clients that are given back, and waiting with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from transport_labs import Lab

from broker_bridge.message import OutgoingRecord, Position, Record, TopicPartition
from broker_bridge.transport.base import BatchProducer, GroupConsumer, LogReader, TopicAdmin, TopicSpec

DEADLINE_S = 20.0
Check = Callable[["Bench"], Awaitable[None]]


class Hooks:
    """Rebalance hooks that write down what happened, in order, over all members that share them."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, frozenset[TopicPartition]]] = []

    def of(self, member: str) -> dict[str, Any]:
        async def on_assigned(partitions: frozenset[TopicPartition]) -> None:
            self.events.append(("assigned", member, partitions))

        async def on_revoked(partitions: frozenset[TopicPartition]) -> None:
            self.events.append(("revoked", member, partitions))

        return {"on_assigned": on_assigned, "on_revoked": on_revoked}

    def count(self, what: str, member: str) -> int:
        return sum(1 for event, who, _ in self.events if (event, who) == (what, member))


class Bench:
    """One check's topics and clients."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.transport = lab.transport
        self.group = f"{lab.name}.group"
        self._cleanup = AsyncExitStack()

    async def __aenter__(self) -> Bench:
        return self

    async def __aexit__(self, *exc: Any) -> None:
        await self._cleanup.aclose()

    async def started(self, client: Any) -> Any:
        self._cleanup.push_async_callback(client.stop)
        await client.start()
        return client

    async def admin(self) -> TopicAdmin:
        return await self.started(self.transport.admin())

    async def producer(self, **options: Any) -> BatchProducer:
        return await self.started(self.transport.producer(**options))

    async def reader(self) -> LogReader:
        return await self.started(self.transport.reader())

    async def consumer(self, *topics: str, **options: Any) -> GroupConsumer:
        return await self.started(self.transport.consumer(group=self.group, topics=topics, **options))

    async def topic(self, partitions: int = 1, suffix: str = "a") -> str:
        name = f"{self.lab.name}.{suffix}"
        await (await self.admin()).ensure([TopicSpec(name, partitions)])
        return name

    async def filled(self, count: int, suffix: str = "a") -> TopicPartition:
        """A topic of one partition with values 0, 1, 2 …"""
        tp = TopicPartition(await self.topic(suffix=suffix), 0)
        await self.write(tp.topic, [str(number).encode() for number in range(count)])
        return tp

    async def write(self, topic: str, values: Sequence[bytes], partition: int = 0) -> list[Position]:
        producer = await self.producer()
        answers = await producer.send_batch([OutgoingRecord(topic, value, partition=partition) for value in values])
        return placed(answers)


def placed(answers: Sequence[object]) -> list[Position]:
    assert all(isinstance(answer, Position) for answer in answers), answers
    return list(answers)  # type: ignore[arg-type]


async def take(consumer: GroupConsumer, count: int, *, max_records: int = 100) -> list[Record]:
    """Poll until ``count`` records came."""
    records: list[Record] = []
    deadline = time.monotonic() + DEADLINE_S
    while len(records) < count:
        assert time.monotonic() < deadline, f"{len(records)} of {count} records came"
        records += await consumer.poll(max_records=max_records, timeout_ms=200)
    return records


async def poll_until(consumer: GroupConsumer, condition: Callable[[], bool], what: str) -> list[Record]:
    """Poll until the condition holds; the records that came by the way."""
    records: list[Record] = []
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        records += await consumer.poll(max_records=100, timeout_ms=50)
        await asyncio.sleep(0)
    return records


async def read_all(
    reader: LogReader, start: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]
) -> list[Record]:
    async with asyncio.timeout(DEADLINE_S):
        return [record async for batch in _batches(reader, start, end) for record in batch]


def _batches(reader: LogReader, start: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]) -> Any:
    return reader.read(start, end)
