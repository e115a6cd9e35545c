"""The laboratory: real servers on free ports, sources filled once, results read back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from redis import Redis

from benchmarks.job import BATCH, PARTITIONS, Job, Source, open_contracts
from benchmarks.scenario import Trial
from broker_bridge.bootstrap import open_transport
from broker_bridge.config import config_from
from broker_bridge.core.lanes import LaneNames
from broker_bridge.message import OutgoingRecord, Record
from broker_bridge.stack import LocalStack
from broker_bridge.transport.base import TopicSpec, Transport

_T = TypeVar("_T")


@dataclass(frozen=True)
class Loaded:
    """A source that is filled: how many records it holds, duplicates included, and what must become of them."""

    source: Source
    records: int
    expected: frozenset[int]


class Lab:
    """Servers and what is on them. ``folder`` is for logs and effect files of one run."""

    def __init__(self, stack: LocalStack, folder: Path, say: Callable[[str], None]) -> None:
        self.stack = stack
        self.folder = folder
        self.say = say
        self._loaded: dict[str, Loaded] = {}
        self._codec = open_contracts()

    @property
    def bootstrap(self) -> str:
        """Kafka."""
        return self.stack.bootstrap

    @property
    def redis(self) -> Redis:
        """A client of the lab's Redis."""
        return Redis.from_url(self.stack.redis_url)

    # --- sources -------------------------------------------------------------------------------------------

    def fill(self, source: Source) -> Loaded:
        """Fill a topic, once in a run."""
        if source.topic not in self._loaded:
            self.say(f"  filling {source.topic}: {source.distinct:,} orders in {source.partitions} partitions")
            records = asyncio.run(self._fill(source))
            self._loaded[source.topic] = Loaded(source, records, source.expected(self._codec))
        return self._loaded[source.topic]

    async def _fill(self, source: Source) -> int:
        await self._ensure(source.topic, source.partitions)
        producer = self._transport().producer()
        await producer.start()
        written = 0
        records = source.records(self._codec)
        while batch := list(islice(records, BATCH)):
            written += await _sent(producer.send_batch, batch)
        await producer.stop()
        return written

    # --- one trial -----------------------------------------------------------------------------------------

    def job(self, trial: Trial, source: str, records: int, *, limit_s: float = 3_600.0, **options: Any) -> Job:
        """The job of one trial: an empty Redis, an empty result topic."""
        self.redis.flushall()
        job = Job(self.bootstrap, self.stack.redis_url, source, trial.name, records, limit_s, options)
        asyncio.run(self._ensure(job.results, PARTITIONS))
        return job

    def values(self, topic: str) -> list[bytes]:
        """Every value in a topic."""
        return [record.value or b"" for record in self.records(topic)]

    def records(self, topic: str) -> list[Record]:
        """Every record in a topic."""
        return self.each(topic, lambda record: record)

    def each(self, topic: str, look: Callable[[Record], _T]) -> list[_T]:
        """What ``look`` makes of every record in a topic; the records are not kept."""
        return asyncio.run(self._read(topic, look))

    def clear(self, job: Job) -> None:
        """Remove what the trial wrote, so that the next one finds the broker as this one did."""
        names = [job.results]
        with_lanes = [name for name in self.topics() if name.startswith(f"{job.name}.")]
        asyncio.run(self._delete({*names, *with_lanes}))

    def empty(self, topic: str) -> None:
        """Remove every record of a topic; offsets go on."""
        asyncio.run(self._empty(topic))

    def topics(self) -> list[str]:
        """Every topic there is."""

        async def asked() -> list[str]:
            admin = self._transport().admin()
            await admin.start()
            try:
                return await admin.topics()
            finally:
                await admin.stop()

        return asyncio.run(asked())

    def ensure(self, topic: str, partitions: int = PARTITIONS) -> None:
        """Make a topic."""
        asyncio.run(self._ensure(topic, partitions))

    def lane(self, job: Job, delay_ms: int) -> str:
        """The name of one of the job's retry lanes."""
        return LaneNames(job.name, job.source).retry(delay_ms)

    # --- inside --------------------------------------------------------------------------------------------

    def _transport(self) -> Transport:
        return open_transport(config_from({"kafka": {"bootstrap": self.bootstrap}}))

    async def _ensure(self, topic: str, partitions: int) -> None:
        admin = self._transport().admin()
        await admin.start()
        try:
            await admin.ensure([TopicSpec(topic, partitions)])
        finally:
            await admin.stop()

    async def _read(self, topic: str, look: Callable[[Record], _T]) -> list[_T]:
        reader = self._transport().reader()
        await reader.start()
        try:
            bounds = await reader.offsets([topic])
            start = {tp: first for tp, (first, _) in bounds.items()}
            end = {tp: last for tp, (_, last) in bounds.items()}
            return [look(record) async for batch in reader.read(start, end) for record in batch]
        finally:
            await reader.stop()

    async def _empty(self, topic: str) -> None:
        reader, admin = self._transport().reader(), AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await reader.start()
        await admin.start()
        try:
            ends = {TopicPartition(*tp): end for tp, (_, end) in (await reader.offsets([topic])).items()}
            await admin.delete_records({tp: RecordsToDelete(before_offset=end) for tp, end in ends.items()})
        finally:
            await admin.close()
            await reader.stop()

    async def _delete(self, names: Iterable[str]) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            await admin.delete_topics(sorted(names))
        finally:
            await admin.close()


async def _sent(send_batch: Callable[[Sequence[OutgoingRecord]], Any], batch: list[OutgoingRecord]) -> int:
    failed = [found for found in await send_batch(batch) if isinstance(found, Exception)]
    if failed:
        raise failed[0]
    return len(batch)


def in_batches(values: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Lists of up to ``size``."""
    rest = iter(values)
    while batch := list(islice(rest, size)):
        yield batch
