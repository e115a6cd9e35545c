"""The operations topic: what operators did, in order, kept for ever.

An action is recorded, and the record acknowledged, before the action goes on: one that leaves no trace must not run.
The topic has one partition, so that its order is the order of events.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Final, NamedTuple

from broker_bridge.core.operation import (
    REPORTS,
    Operation,
    OperationFilter,
    Unreadable,
    operation_value,
    read_operation,
)
from broker_bridge.errors import OperationUnrecordedError, TopicMissingError, TransportError
from broker_bridge.message import OutgoingRecord, Position, TopicPartition
from broker_bridge.transport.base import BatchProducer, LogReader, TopicAdmin, TopicSpec, Transport
from broker_bridge.worker.topics import safe

DEFAULT_TOPIC: Final = "broker-bridge.operations"
MOST_COPIES: Final = 3
_PARTITION: Final = 0
_KEPT: Final = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
_CONTENT_TYPE: Final = ("content-type", b"application/json")

UnreadableHook = Callable[[Position, str], None]
"""Told of a record that is no operation: its place, and why."""


class Extent(NamedTuple):
    """The offsets the topic holds: from ``first`` up to ``end``. What was before ``first`` was removed by somebody."""

    first: int
    end: int


class OperationsLog:
    """Records operations and reads them back.

    ``reader`` is started by whoever gives it. What recording needs is opened by the first ``record`` and closed by
    ``stop``: reading needs no right to write. A topic that does not exist is then created with ``replication`` copies;
    by default three, or as many as there are brokers.
    """

    def __init__(
        self,
        transport: Transport,
        reader: LogReader,
        *,
        topic: str = DEFAULT_TOPIC,
        replication: int | None = None,
        delivery_timeout_ms: int = 30_000,
    ) -> None:
        self.topic = topic
        self._transport = transport
        self._reader = reader
        self._replication = replication
        self._delivery_timeout_ms = delivery_timeout_ms
        self._producer: BatchProducer | None = None
        self._opening = asyncio.Lock()

    async def record(self, operation: Operation) -> None:
        """Write the operation and wait for its acknowledgement. Raises ``OperationUnrecordedError``: whoever records
        must then not go on."""
        record = OutgoingRecord(
            self.topic,
            operation_value(operation),
            headers=(_CONTENT_TYPE,),
            partition=_PARTITION,
            timestamp_ms=operation.at_ms,
        )
        try:
            producer = await self._opened()
            answer = (await producer.send_batch([record]))[0]
        except TransportError as error:
            raise self._unrecorded(operation, error) from error
        if isinstance(answer, TransportError):
            raise self._unrecorded(operation, answer) from answer

    async def read(
        self, wanted: OperationFilter | None = None, *, start: int = 0, unreadable: UnreadableHook | None = None
    ) -> AsyncGenerator[Operation, None]:
        """The wanted operations, oldest first, as far as the topic reaches now; none where there is no topic.

        ``start`` is the first offset to look at, for who has read what is before it.
        Records that are no operation are told to ``unreadable`` and passed over. Raises ``TransportError``.
        """
        wanted = wanted or OperationFilter()
        extent = await self.extent()
        if extent is None:
            return
        partition = TopicPartition(self.topic, _PARTITION)
        first = max(extent.first, start)
        if wanted.since_ms is not None:
            found = await self._reader.offsets_at([self.topic], timestamp_ms=max(0, wanted.since_ms))
            first = max(first, found[partition])
        async for batch in self._reader.read({partition: first}, {partition: extent.end}):
            for record in batch:
                operation = read_operation(record.value)
                if isinstance(operation, Unreadable):
                    if unreadable is not None:
                        unreadable(record.position, operation.reason)
                elif wanted.matches(operation):
                    yield operation

    async def extent(self) -> Extent | None:
        """Which offsets the topic holds, None where it does not exist. Raises ``TransportError``."""
        try:
            bounds = await self._reader.offsets([self.topic])
        except TopicMissingError:
            return None
        return Extent(*bounds[TopicPartition(self.topic, _PARTITION)])

    async def stop(self) -> None:
        """Close what recording opened. Idempotent."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def _opened(self) -> BatchProducer:
        async with self._opening:
            if self._producer is None:
                await self._ensure_topic()
                producer = self._transport.producer(delivery_timeout_ms=self._delivery_timeout_ms)
                await producer.start()
                self._producer = producer
            return self._producer

    async def _ensure_topic(self) -> None:
        """Create the topic if it is not there. Sending to a missing one could have the broker make it with settings
        that remove what is old."""
        admin = self._transport.admin()
        await admin.start()
        try:
            if (await admin.describe([self.topic]))[self.topic] is None:
                copies = self._replication or min(MOST_COPIES, await admin.broker_count())
                await admin.ensure([operations_topic(self.topic, replication=copies)])
        finally:
            await admin.stop()

    def _unrecorded(self, operation: Operation, error: TransportError) -> OperationUnrecordedError:
        remedy = "what was done stands; have Kafka take records of this topic" if operation.action in REPORTS else ""
        return OperationUnrecordedError(
            f"{operation.action} could not be recorded: {error}", where=self.topic, remedy=remedy
        )


def operations_topic(name: str, *, replication: int) -> TopicSpec:
    """The topic as it must be: everything kept for ever, in one order."""
    return TopicSpec(name, 1, replication, {**_KEPT, **safe(replication)})


async def topic_problems(admin: TopicAdmin, name: str) -> list[str]:
    """What of the topic, as it is, would lose operations or their order, one sentence each; empty where it is sound or
    does not exist yet. Raises ``TransportError``."""
    count = (await admin.describe([name]))[name]
    if count is None:
        return []
    found = await admin.unsafe_settings([name])
    if count != 1:
        found.append(f"{name}: has {count} partitions, but only partition {_PARTITION} is used; make it with one")
    settings = await admin.settings(name)
    for setting, wanted in _KEPT.items():
        if settings.get(setting) != wanted:
            found.append(f"{name}: {setting} is {settings.get(setting)}; set it to {wanted}, or operations are lost")
    return found
