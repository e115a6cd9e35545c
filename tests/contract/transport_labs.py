"""Where transports are tried: in memory, and on a real Kafka. A lab can do to the log what only tests want done."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.protocol.group import LeaveGroupRequest

from broker_bridge.clock import SystemClock
from broker_bridge.message import OutgoingRecord, Position, TopicPartition
from broker_bridge.transport.base import Transport
from broker_bridge.transport.kafka import KafkaConsumer, KafkaSettings, KafkaTransport
from broker_bridge.transport.memory import MemoryTransport


class Lab(Protocol):
    """A transport and the hands to meddle with its log."""

    transport: Transport
    name: str

    async def trim(self, tp: TopicPartition, *, before: int) -> None:
        """Remove the records before this offset."""

    async def evict(self, group: str, consumer: Any) -> None:
        """The group forgets this member without telling it."""

    async def write_with_gaps(self, tp: TopicPartition, values: Sequence[bytes]) -> list[Position]:
        """Write these with offsets between and after them that no reader may see. Returns where they are."""

    def unreachable(self) -> Transport:
        """A transport to a log that does not answer."""


class MemoryTransportLab:
    """Everything on ``MemoryLog``."""

    def __init__(self, name: str, transport: MemoryTransport | None = None) -> None:
        self.name = name
        self.transport = transport or MemoryTransport(SystemClock())

    async def trim(self, tp: TopicPartition, *, before: int) -> None:
        self.transport.log.trim(tp, before=before)

    async def evict(self, group: str, consumer: Any) -> None:
        await self.transport.evict(group, consumer.member_id)

    async def write_with_gaps(self, tp: TopicPartition, values: Sequence[bytes]) -> list[Position]:
        log, partition = self.transport.log, self.transport.log.partition(tp)
        places = []
        for value in values:
            for content in (value, b"not to be seen"):
                log.append(OutgoingRecord(tp.topic, content, partition=tp.partition), now_ms=0)
            places.append(Position(*tp, partition.end - 2))
            log.remove(Position(*tp, partition.end - 1))
        return places

    def unreachable(self) -> Transport:
        other = MemoryTransport(SystemClock())
        other.log.create_topic("any", 1)
        other.log.available = False
        return other


class KafkaTransportLab:
    """Everything on a real broker. Heartbeats are frequent, so that rebalances are noticed at once."""

    def __init__(self, name: str, bootstrap: str) -> None:
        self.name = name
        self.settings = KafkaSettings(
            bootstrap=bootstrap,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=200,
            rebalance_timeout_ms=10_000,
            request_timeout_ms=10_000,
            fetch_max_wait_ms=50,
        )
        self.transport: Transport = KafkaTransport(self.settings)
        self._numbers = itertools.count()

    async def trim(self, tp: TopicPartition, *, before: int) -> None:
        async with _Admin(self.settings) as admin:
            await admin.delete_records({KafkaPartition(*tp): RecordsToDelete(before)})

    async def evict(self, group: str, consumer: KafkaConsumer) -> None:
        """Anybody who knows a member's id may make it leave: the broker does what a session timeout would do."""
        member_id = consumer._consumer._coordinator.member_id  # type: ignore[union-attr]
        async with _Admin(self.settings) as admin:
            coordinator = await admin.find_coordinator(group)
            await admin._send_request(LeaveGroupRequest(group, member_id), coordinator)

    async def write_with_gaps(self, tp: TopicPartition, values: Sequence[bytes]) -> list[Position]:
        """A transaction a record leaves a commit marker behind each; aborted ones lie between."""
        producer = AIOKafkaProducer(
            **self.settings.connection_options(), transactional_id=f"{self.name}-{next(self._numbers)}"
        )
        await producer.start()
        places = []
        try:
            for value in values:
                async with producer.transaction():
                    done = await producer.send_and_wait(tp.topic, value, partition=tp.partition)
                places.append(Position(*tp, done.offset))
                await producer.begin_transaction()
                await producer.send_and_wait(tp.topic, b"not to be seen", partition=tp.partition)
                await producer.abort_transaction()
        finally:
            await producer.stop()
        return places

    def unreachable(self) -> Transport:
        return KafkaTransport(self.settings.model_copy(update={"bootstrap": "127.0.0.1:1"}))


class _Admin:
    def __init__(self, settings: KafkaSettings) -> None:
        self._client = AIOKafkaAdminClient(**settings.connection_options())

    async def __aenter__(self) -> Any:
        await self._client.start()
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()
