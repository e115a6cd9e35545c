"""Reading Kafka outside any group: bounded, by position, without a trace on the broker."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka import errors as kafka
from aiokafka.admin import AIOKafkaAdminClient

from broker_bridge.errors import OffsetOutOfRangeError, TopicMissingError, TransportError
from broker_bridge.message import Position, Record, TopicPartition
from broker_bridge.transport.kafka_errors import translated
from broker_bridge.transport.kafka_settings import KafkaSettings

Ranges = dict[TopicPartition, list[tuple[int, int]]]
"""Per partition, rising ranges start ≤ offset < end to read."""

Left = dict[KafkaPartition, deque[tuple[int, int]]]
"""The ranges that are still to be read."""

_POLL_MS = 200
_GAP = 200
"""Wanted offsets closer than this are read in one go: skipping ahead costs a round trip."""
_SCATTERED_FETCH_BYTES = 131_072
"""How much a look at single records fetches at once."""
_DENSE = 64
"""Records wanted of a stretch, on average, from which on ``fetch`` is reading rather than looking."""
_AT_ONCE = 250
"""Records taken from a fetch at a time. Unpacked, they fit the processor's cache, and whoever asked for them works on
them there: 7 µs a record instead of 12 where the four thousand of a whole fetch are unpacked first."""
_FRESH_S = 1.0
"""How long ``fetch`` believes what it was told of a partition's bounds, and keeps what it has read ahead."""


class KafkaReader:
    """``LogReader`` on Kafka: one connection for questions, one for each ``read``, and two that stay for ``fetch``.

    Those go on reading behind what was asked for, so that whoever fetches on and on, in the order of the log, finds the
    next records here. What ``fetch`` answers may therefore be as old as ``_FRESH_S``.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._client: AIOKafkaConsumer | None = None
        self._fetching: dict[int, _Standing] = {}
        self._known = _KnownBounds()

    async def start(self) -> None:
        """See ``LogReader.start``. Raises ``TransportError`` where no broker answers."""
        self._client = await self._opened(self._settings.max_partition_fetch_bytes)

    async def stop(self) -> None:
        """See ``LogReader.stop``."""
        standing, self._fetching = [*self._fetching.values()], {}
        client, self._client = self._client, None
        for one in (client, *(kept.client for kept in standing)):
            if one is not None:
                with translated(self._settings.bootstrap):
                    await one.stop()

    async def offsets(self, topics: Sequence[str]) -> dict[TopicPartition, tuple[int, int]]:
        """See ``LogReader.offsets``. The end is the last stable offset: what a committed read can reach."""
        return await self._bounds(await self._partitions(topics))

    async def offsets_at(self, topics: Sequence[str], *, timestamp_ms: int) -> dict[TopicPartition, int]:
        """See ``LogReader.offsets_at``."""
        partitions = await self._partitions(topics)
        if not partitions:
            return {}
        client = self._started()
        with translated(self._settings.bootstrap):
            found = await client.offsets_for_times(dict.fromkeys(partitions, timestamp_ms))
            ends = await client.end_offsets(partitions)
        return {TopicPartition(*tp): at.offset if at is not None else ends[tp] for tp, at in found.items()}

    async def read(
        self, start: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]
    ) -> AsyncIterator[list[Record]]:
        """See ``LogReader.read``."""
        ranges: Ranges = {tp: [(first, end[tp])] for tp, first in start.items() if tp in end and first < end[tp]}
        for tp, (first, last) in (await self._bounds_of(ranges)).items():
            asked = ranges[tp][0][0]
            if asked < first:
                raise OffsetOutOfRangeError(
                    f"offset {asked} is not in the log, which holds {first} to {last}",
                    where=f"{tp.topic}/{tp.partition}/{asked}",
                )
            ranges[tp] = [(asked, min(ranges[tp][0][1], last))]
        async with aclosing(self._read_ranges(ranges, self._settings.max_partition_fetch_bytes)) as batches:
            async for batch in batches:
                yield batch

    async def fetch(self, positions: Sequence[Position]) -> list[Record | None]:
        """See ``LogReader.fetch``. Neighbours are read together, partitions at the same time."""
        wanted: dict[TopicPartition, set[int]] = {}
        for position in positions:
            wanted.setdefault(TopicPartition(position.topic, position.partition), set()).add(position.offset)
        try:
            found = await self._fetched(wanted, await self._recent_bounds(wanted))
        except OffsetOutOfRangeError:  # retention removed some since the bounds were asked for
            found = await self._fetched(wanted, await self._recent_bounds(wanted, again=True))
        return [found[position.topic, position.partition].get(position.offset) for position in positions]

    async def group_offsets(self, group: str, topics: Sequence[str]) -> dict[TopicPartition, int | None]:
        """See ``LogReader.group_offsets``."""
        partitions = await self._partitions(topics)
        if not partitions:
            return {}
        found = await self._stored_offsets(group, partitions)
        offsets = {TopicPartition(*tp): stored.offset for tp, stored in found.items() if stored.offset >= 0}
        return {TopicPartition(*tp): offsets.get(TopicPartition(*tp)) for tp in partitions}

    # -- fetching

    async def _fetched(
        self, wanted: Mapping[TopicPartition, set[int]], bounds: Mapping[TopicPartition, tuple[int, int]]
    ) -> dict[tuple[str, int], dict[int, Record]]:
        ranges: Ranges = {}
        for tp, (first, last) in bounds.items():
            ranges[tp] = _ranges_over(offset for offset in sorted(wanted[tp]) if first <= offset < last)
        found: dict[tuple[str, int], dict[int, Record]] = {tp: {} for tp in wanted}
        left = _left_of(ranges)
        if not left:
            return found
        is_dense = sum(map(len, wanted.values())) >= _DENSE * sum(map(len, left.values()))
        fetch_bytes = self._settings.max_partition_fetch_bytes if is_dense else _SCATTERED_FETCH_BYTES
        standing = self._fetching.setdefault(fetch_bytes, _Standing())
        async with standing.lock:
            try:
                client = standing.client = standing.client or await self._opened(fetch_bytes)
                await standing.turn_to(client, left)
                while left:
                    for record in await self._next_batch(client, left, no_further=True):
                        if record.offset in wanted[_tp_of(record)]:
                            found[record.topic, record.partition][record.offset] = record
                standing.used_at = asyncio.get_running_loop().time()
            except BaseException:
                # Whatever state it is in: the next call begins with another.
                client_, standing.client = standing.client, None
                if client_ is not None:
                    await client_.stop()
                raise
        return found

    async def _recent_bounds(
        self, wanted: Mapping[TopicPartition, set[int]], *, again: bool = False
    ) -> dict[TopicPartition, tuple[int, int]]:
        """The bounds of these partitions, asked for anew where they are old or what is wanted is beyond."""
        now = asyncio.get_running_loop().time()
        known = None if again else self._known.of(wanted, now=now)
        if known is None:
            known = await self._bounds_of(wanted)
            self._known.note(known, now=now)
        return known

    # -- inside

    async def _read_ranges(self, ranges: Ranges, fetch_bytes: int) -> AsyncGenerator[list[Record], None]:
        """Every range of every partition, until each *position* has passed its end: counting records would wait for
        ever where the last offsets hold transaction markers or were compacted away."""
        left = _left_of(ranges)
        if not left:
            return
        client = await self._opened(fetch_bytes)
        try:
            client.assign(list(left))
            for tp, todo in left.items():
                client.seek(tp, todo[0][0])
            while left:
                batch = await self._next_batch(client, left)
                if batch:
                    yield batch
        finally:
            _let_go(client)
            with translated(self._settings.bootstrap):
                await client.stop()

    async def _next_batch(self, client: AIOKafkaConsumer, left: Left, *, no_further: bool = False) -> list[Record]:
        """The records fetched next; ``no_further`` than a range goes, so that the next call finds what is behind it.
        Ranges that are done are dropped from ``left``; raises where nothing moves on."""
        loop = asyncio.get_running_loop()
        deadline, look_at = loop.time() + self._settings.request_timeout_ms / 1000, loop.time() + _FRESH_S
        while left:
            with translated(self._settings.bootstrap):
                wanted, at_once = list(left), _AT_ONCE
                if no_further:
                    wanted = wanted[:1]
                    at_once = min(_AT_ONCE, left[wanted[0]][0][1] - await client.position(wanted[0]))
                fetched = await client.getmany(*wanted, timeout_ms=_POLL_MS, max_records=at_once)
                batch = [record for tp, records in fetched.items() for record in _within(records, left.get(tp, ()))]
                moved = bool(fetched)
                for tp in list(left):
                    moved = await _advance(client, tp, left) or moved
            if batch:
                return batch
            if moved:
                deadline = loop.time() + self._settings.request_timeout_ms / 1000
            elif loop.time() > look_at:  # aiokafka would wait for a topic that is gone
                look_at = loop.time() + _FRESH_S
                await self._bounds_of({TopicPartition(*tp): None for tp in left})
            if loop.time() > deadline:
                named = ", ".join(f"{tp.topic}/{tp.partition}" for tp in left)
                raise TransportError("no records came before the request timeout", where=named)
        return []

    async def _stored_offsets(self, group: str, partitions: Sequence[KafkaPartition]) -> dict[KafkaPartition, Any]:
        """Asked again while there is no coordinator: a broker that was never asked for one makes its topic first."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.request_timeout_ms / 1000
        async with self._admin() as admin:
            while True:
                try:
                    found: dict[KafkaPartition, Any] = await admin.list_consumer_group_offsets(
                        group, partitions=partitions
                    )
                except (kafka.GroupCoordinatorNotAvailableError, kafka.GroupLoadInProgressError):
                    if loop.time() > deadline:
                        raise
                    await asyncio.sleep(_POLL_MS / 1000)
                else:
                    return found

    async def _partitions(self, topics: Sequence[str]) -> list[KafkaPartition]:
        client = self._started()
        with translated(self._settings.bootstrap):
            existing = await client.topics()
            missing = sorted(set(topics) - existing)
            if missing:
                raise TopicMissingError("no such topic", where=", ".join(missing))
            for topic in topics:
                await client._client._wait_on_metadata(topic)
        return [
            KafkaPartition(topic, number)
            for topic in dict.fromkeys(topics)
            for number in sorted(client.partitions_for_topic(topic) or ())
        ]

    async def _bounds(self, partitions: Sequence[KafkaPartition]) -> dict[TopicPartition, tuple[int, int]]:
        if not partitions:
            return {}
        client = self._started()
        with translated(self._settings.bootstrap):
            first = await client.beginning_offsets(partitions)
            last = await client.end_offsets(partitions)
        return {TopicPartition(*tp): (first[tp], last[tp]) for tp in partitions}

    async def _bounds_of(self, wanted: Mapping[TopicPartition, Any]) -> dict[TopicPartition, tuple[int, int]]:
        """Bounds of these partitions. Raises ``TopicMissingError`` where one does not exist."""
        existing = set(await self._partitions(sorted({tp.topic for tp in wanted})))
        for tp in wanted:
            if tp not in existing:
                raise TopicMissingError("no such partition", where=f"{tp.topic}/{tp.partition}")
        return await self._bounds([KafkaPartition(*tp) for tp in sorted(wanted)])

    async def _opened(self, fetch_bytes: int) -> AIOKafkaConsumer:
        client = AIOKafkaConsumer(
            **self._settings.connection_options(),
            group_id=None,
            auto_offset_reset="none",
            enable_auto_commit=False,
            isolation_level="read_committed",
            max_partition_fetch_bytes=fetch_bytes,
            fetch_max_bytes=self._settings.fetch_max_bytes,
            fetch_max_wait_ms=_POLL_MS,
        )
        with translated(self._settings.bootstrap):
            try:
                await client.start()
                # Its tasks begin: one that is cancelled before it did would cancel whoever stops the client.
                await asyncio.sleep(0)
                # What one partition has read ahead shall not hold up the fetch of another.
                client._fetcher._prefetch_backoff = 0.0
            except BaseException:
                await client.stop()
                raise
        return client

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[Any]:
        admin = AIOKafkaAdminClient(**self._settings.connection_options())
        with translated(self._settings.bootstrap):
            try:
                await admin.start()
                yield admin
            finally:
                await admin.close()

    def _started(self) -> AIOKafkaConsumer:
        if self._client is None:
            raise TransportError("the reader is not started, or was stopped", remedy="call start() first")
        return self._client


class _Standing:
    """A connection that stays for ``fetch``, when it was last used, and who uses it."""

    def __init__(self) -> None:
        self.client: AIOKafkaConsumer | None = None
        self.used_at = float("-inf")
        self.lock = asyncio.Lock()

    async def turn_to(self, client: AIOKafkaConsumer, left: Left) -> None:
        """Have ``client`` read on at the first of each range; what it has read ahead is kept while it is fresh."""
        goes_on = asyncio.get_running_loop().time() - self.used_at < _FRESH_S and client.assignment() == set(left)
        if not goes_on:
            _let_go(client)
            client.assign(list(left))
        for tp, todo in left.items():
            if not goes_on or await client.position(tp) != todo[0][0]:
                _let_go(client, tp)
                client.seek(tp, todo[0][0])


class _KnownBounds:
    """First and next offset of partitions, and when that was told."""

    def __init__(self) -> None:
        self._known: dict[TopicPartition, tuple[int, int]] = {}
        self._told_at = float("-inf")

    def note(self, bounds: Mapping[TopicPartition, tuple[int, int]], *, now: float) -> None:
        """Told just now; what was told before is forgotten."""
        self._known, self._told_at = dict(bounds), now

    def of(
        self, wanted: Mapping[TopicPartition, set[int]], *, now: float
    ) -> dict[TopicPartition, tuple[int, int]] | None:
        """Those of these partitions; None where they are old, or one is not known or has grown since."""
        known = self._known
        if now - self._told_at >= _FRESH_S:
            return None
        if not all(tp in known and max(offsets) < known[tp][1] for tp, offsets in wanted.items()):
            return None
        return {tp: known[tp] for tp in wanted}


def _left_of(ranges: Ranges) -> Left:
    """What is to be read, without what is empty."""
    left = {KafkaPartition(*tp): deque(r for r in todo if r[0] < r[1]) for tp, todo in ranges.items()}
    return {tp: todo for tp, todo in left.items() if todo}


async def _advance(client: AIOKafkaConsumer, tp: KafkaPartition, left: Left) -> bool:
    """Go on to the next range where this one is done. True where something was done."""
    position = await client.position(tp)
    todo = left[tp]
    if position < todo[0][1]:
        return False
    while todo and position >= todo[0][1]:
        todo.popleft()
    if not todo:
        del left[tp]
    elif position < todo[0][0]:
        _let_go(client, tp)
        client.seek(tp, todo[0][0])
    return True


def _let_go(client: AIOKafkaConsumer, only: KafkaPartition | None = None) -> None:
    """Free what was fetched and will not be taken. aiokafka leaves it in a ring of references, up to a megabyte a
    partition, and the garbage collector counts objects, not their size: it comes after hundreds of them."""
    for tp, held in client._fetcher._records.items():
        records = getattr(held, "_partition_records", None)
        if records is not None and only in (None, tp) and records._records_iterator is not None:
            records._records_iterator.close()


def _within(records: Sequence[Any], ranges: Iterable[tuple[int, int]]) -> list[Record]:
    """Those of a partition's records that lie in any of its ranges; one fetch may span several."""
    offsets = [r.offset for r in records]
    chosen: list[Any] = []
    for start, end in ranges:
        chosen += records[bisect_left(offsets, start) : bisect_left(offsets, end)]
        if end > offsets[-1]:
            break
    return [Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers) for r in chosen]


def _ranges_over(offsets: Iterable[int]) -> list[tuple[int, int]]:
    """The fewest ranges over these rising offsets that do not read long stretches nobody asked for."""
    ranges: list[tuple[int, int]] = []
    for offset in offsets:
        if ranges and offset - ranges[-1][1] < _GAP:
            ranges[-1] = (ranges[-1][0], offset + 1)
        else:
            ranges.append((offset, offset + 1))
    return ranges


def _tp_of(record: Record) -> TopicPartition:
    return TopicPartition(record.topic, record.partition)
