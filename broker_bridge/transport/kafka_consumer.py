"""A group member on Kafka, through aiokafka's consumer with every default set that would lose or repeat work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka import errors as kafka
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from broker_bridge.errors import OffsetOutOfRangeError, TopicMissingError, TransportError
from broker_bridge.message import Record, TopicPartition
from broker_bridge.transport.base import PartitionsHook
from broker_bridge.transport.kafka_admin import KafkaAdmin
from broker_bridge.transport.kafka_errors import translated
from broker_bridge.transport.kafka_membership import Membership
from broker_bridge.transport.kafka_settings import KafkaSettings

_STOP_S = 10.0
"""How long leaving the group may take before the connections are simply cut."""
_GRACE_S = 0.02
"""How much later than aiokafka's own timeout a poll gives up; needed only while the group rebalances."""


class KafkaConsumer:
    """``GroupConsumer`` on Kafka. Made by ``KafkaTransport.consumer``.

    A static ``member`` does not leave the group on ``stop``: its partitions wait for it for the session timeout.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        group: str,
        topics: Sequence[str],
        on_assigned: PartitionsHook | None,
        on_revoked: PartitionsHook | None,
        member: str | None,
    ) -> None:
        self._settings = settings
        self._group = group
        self._topics = tuple(topics)
        self._member = member
        self._consumer: AIOKafkaConsumer | None = None
        self._stopping = False
        self._membership = Membership(
            place=self._place,
            group_generation=self._group_generation,
            on_assigned=on_assigned,
            on_revoked=on_revoked,
            commit_wait_ms=settings.request_timeout_ms,
        )

    async def start(self) -> None:
        """See ``GroupConsumer.start``. Returns when partitions are assigned and ``on_assigned`` has run."""
        await self._require_topics()
        consumer = self._consumer = AIOKafkaConsumer(**self._options())
        consumer.subscribe(topics=list(self._topics), listener=self._membership)
        limit_ms = self._settings.rebalance_timeout_ms + self._settings.request_timeout_ms
        try:
            with translated(self._settings.bootstrap):
                async with asyncio.timeout(limit_ms / 1000):
                    await consumer.start()
                    await self._membership.settled.wait()
        except BaseException:
            self._consumer = None
            await self._close(consumer)
            raise

    async def poll(self, *, max_records: int, timeout_ms: int) -> list[Record]:
        """See ``GroupConsumer.poll``."""
        consumer = self._running()
        deadline = time.monotonic() + timeout_ms / 1000
        while True:
            self._membership.raise_failure()
            left_s = deadline - time.monotonic()
            if not await self._settled_within(left_s):
                return []
            records = await self._fetched(consumer, max_records, max(0.0, left_s))
            if records and not self._membership.settled.is_set():
                self._rewind(consumer, records)
                records = []
            if records or left_s <= 0 or self._stopping:
                return records

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See ``GroupConsumer.commit``. Answers within the request timeout."""
        consumer = self._running()
        if not offsets:
            return
        self._membership.refuse_foreign(offsets)
        with self._membership.committing(), translated(self._group):
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                await consumer.commit({KafkaPartition(*tp): offset for tp, offset in offsets.items()})

    def pause(self, partitions: frozenset[TopicPartition]) -> None:
        """See ``GroupConsumer.pause``. What was fetched ahead is dropped and fetched again after ``resume``."""
        consumer = self._running()
        for tp in partitions & self._membership.held:
            with suppress(kafka.IllegalStateError):  # revoked, on_partitions_revoked is about to say so
                consumer.pause(KafkaPartition(*tp))

    def resume(self, partitions: frozenset[TopicPartition]) -> None:
        """See ``GroupConsumer.resume``."""
        consumer = self._running()
        for tp in partitions & self._membership.held:
            with suppress(kafka.IllegalStateError):
                consumer.resume(KafkaPartition(*tp))

    def assignment(self) -> frozenset[TopicPartition]:
        """See ``GroupConsumer.assignment``."""
        return self._membership.held

    async def committed(self, partitions: frozenset[TopicPartition]) -> dict[TopicPartition, int | None]:
        """See ``GroupConsumer.committed``."""
        consumer = self._running()
        wanted = sorted(partitions)
        with translated(self._group):
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                found = await asyncio.gather(*(consumer.committed(KafkaPartition(*tp)) for tp in wanted))
        return dict(zip(wanted, found, strict=True))

    async def positions(self, partitions: frozenset[TopicPartition]) -> dict[TopicPartition, int]:
        """See ``GroupConsumer.positions``. Raises ``TransportError`` where one is not known within the request
        timeout."""
        consumer = self._running()
        wanted = sorted(partitions)
        with translated(self._group):
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                found = await asyncio.gather(*(consumer.position(KafkaPartition(*tp)) for tp in wanted))
        return dict(zip(wanted, found, strict=True))

    async def stop(self) -> None:
        """See ``GroupConsumer.stop``. Raises what ``on_revoked`` raised, after everything is closed."""
        consumer = self._consumer
        if consumer is None or self._stopping:
            return
        self._stopping = True
        await self._membership.revoke()
        self._consumer = None
        await self._close(consumer)
        self._membership.raise_failure()

    # -- inside

    def _options(self) -> dict[str, Any]:
        settings = self._settings
        options = settings.connection_options()
        # The broker answers JoinGroup only when every old owner is back from on_revoked: that must not look like a
        # broken connection, or the retried join would leave a ghost member behind.
        options["request_timeout_ms"] = max(settings.request_timeout_ms, settings.rebalance_timeout_ms + 5_000)
        return options | {
            "group_id": self._group,
            "group_instance_id": self._member,
            "auto_offset_reset": "none",  # _place decides: the earliest where nothing was committed, else an error
            "enable_auto_commit": False,
            "isolation_level": "read_committed",
            "partition_assignment_strategy": (RangePartitionAssignor,),
            "session_timeout_ms": settings.session_timeout_ms,
            "heartbeat_interval_ms": settings.heartbeat_interval_ms,
            "rebalance_timeout_ms": settings.rebalance_timeout_ms,
            "max_poll_interval_ms": settings.max_poll_interval_ms,
            "max_partition_fetch_bytes": settings.max_partition_fetch_bytes,
            "fetch_max_bytes": settings.fetch_max_bytes,
            "fetch_max_wait_ms": settings.fetch_max_wait_ms,
        }

    async def _require_topics(self) -> None:
        admin = KafkaAdmin(self._settings)
        await admin.start()
        try:
            found = await admin.describe(self._topics)
        finally:
            await admin.stop()
        missing = sorted(topic for topic, count in found.items() if count is None)
        if missing:
            raise TopicMissingError("a subscribed topic does not exist", where=", ".join(missing))

    async def _settled_within(self, left_s: float) -> bool:
        if self._membership.settled.is_set():
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, left_s)):
                await self._membership.settled.wait()
        return self._membership.settled.is_set()

    async def _fetched(self, consumer: AIOKafkaConsumer, max_records: int, timeout_s: float) -> list[Record]:
        try:
            with translated(self._group):
                async with asyncio.timeout(timeout_s + _GRACE_S):
                    batches = await consumer.getmany(timeout_ms=timeout_s * 1000, max_records=max_records)
        except TransportError as error:
            _repair_idle_time(consumer)
            cause = error.__cause__
            if isinstance(cause, TimeoutError):  # a rebalance began while getmany waited
                return []
            if isinstance(cause, kafka.NoOffsetForPartitionError):
                await self._place(self._membership.held)
                return []
            if isinstance(cause, kafka.OffsetOutOfRangeError):
                if consumer.paused().issuperset(cause.args[0]):  # found out before it was paused
                    return []
                raise await self._out_of_range(consumer, cause) from cause
            raise
        except BaseException:
            _repair_idle_time(consumer)
            raise
        return [
            Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers)
            for batch in batches.values()
            for r in batch
        ]

    def _rewind(self, consumer: AIOKafkaConsumer, records: Sequence[Record]) -> None:
        """aiokafka gave these out before ``on_assigned`` had returned: read them again once it has."""
        first: dict[KafkaPartition, int] = {}
        for record in records:
            first.setdefault(KafkaPartition(record.topic, record.partition), record.offset)
        for tp, offset in first.items():
            with suppress(kafka.IllegalStateError):
                consumer.seek(tp, offset)

    async def _place(self, partitions: frozenset[TopicPartition]) -> None:
        """Start at the log's beginning where nothing was committed. A committed offset is taken as it is, so that one
        that fell out of the log is an error and never a silent jump. What is assigned in the middle of a stop nobody
        reads."""
        if self._stopping:
            return
        consumer = self._running()
        committed = await self.committed(partitions)
        fresh = [KafkaPartition(*tp) for tp, offset in committed.items() if offset is None]
        if not fresh:
            return
        with translated(self._group):
            beginnings = await consumer.beginning_offsets(fresh)
            for tp, offset in beginnings.items():
                with suppress(kafka.IllegalStateError):  # revoked meanwhile
                    consumer.seek(tp, offset)

    async def _out_of_range(
        self, consumer: AIOKafkaConsumer, error: kafka.OffsetOutOfRangeError
    ) -> OffsetOutOfRangeError:
        [(tp, offset)] = error.args[0].items()
        with translated(self._group):
            first = (await consumer.beginning_offsets([tp]))[tp]
            end = (await consumer.end_offsets([tp]))[tp]
        return OffsetOutOfRangeError(
            f"position {offset} of group {self._group} is not in the log, which holds {first} to {end}",
            where=f"{tp.topic}/{tp.partition}/{offset}",
            remedy="records between were removed unread: raise retention, then reset the group's offset on purpose",
        )

    def _group_generation(self) -> int:
        """The generation the coordinator knows us by, −1 once it has forgotten us; aiokafka keeps it private."""
        coordinator = getattr(self._consumer, "_coordinator", None)
        return int(getattr(coordinator, "generation", -1))

    def _running(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise TransportError("the consumer is not started, or was stopped", remedy="call start() first")
        return self._consumer

    @staticmethod
    async def _close(consumer: AIOKafkaConsumer) -> None:
        """Leave the group if the coordinator answers in time, else cut the connections: it will find out by itself."""
        try:
            async with asyncio.timeout(_STOP_S):
                await consumer.stop()
        except (kafka.KafkaError, OSError):  # a timeout is an OSError
            with suppress(kafka.KafkaError, OSError):
                await consumer._client.close()


def _repair_idle_time(consumer: AIOKafkaConsumer) -> None:
    """aiokafka forgets to count down when ``getmany`` raises, takes itself for busy for ever after, and would no longer
    leave the group of a worker that stopped polling. Polls never overlap, so the right count is none."""
    consumer._subscription._fetch_count = 0
    consumer._subscription._last_fetch_ended = time.monotonic()
