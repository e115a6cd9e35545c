"""The transport suite can fail: transports broken on purpose are each caught by the check named beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
from test_transport import CHECKS
from transport_bench import Bench
from transport_labs import MemoryTransportLab

from broker_bridge.clock import SystemClock
from broker_bridge.errors import BridgeError, TransportError
from broker_bridge.message import OutgoingRecord, Position, Record, TopicPartition
from broker_bridge.transport.memory import MemoryConsumer, MemoryProducer, MemoryReader, MemoryTransport
from broker_bridge.transport.memory_group import Member, MemoryGroup
from broker_bridge.transport.memory_log import MemoryLog


class CommitsForAnyone(MemoryGroup):
    """Takes a commit from whoever sends it, evicted or not."""

    def commit(self, member: Member, generation: int, offsets: Mapping[TopicPartition, int]) -> None:
        self._log.committed.setdefault(self.name, {}).update(offsets)


class AssignsBeforeItRevokes(MemoryGroup):
    """The new owner starts while the old one still works."""

    async def _revoke_all(self) -> None:
        asyncio.get_running_loop().call_later(
            0.05, lambda: [self._start(member.revoke()) for member in self._members.values()]
        )


class SwapsNeighbours(MemoryProducer):
    """Order within a partition is lost, the answers look right."""

    async def send_batch(self, records: Sequence[OutgoingRecord]) -> list[Position | TransportError]:
        answers = await super().send_batch(list(records))
        for topic in {record.topic for record in records if self._log.partition_count(record.topic)}:
            for _, partition in self._log.partitions(topic):
                if len(partition.records) > 1:
                    one, two = partition.records[-2:]
                    one.value, two.value = two.value, one.value
        return answers


class MergesHeaders(MemoryProducer):
    """Keeps headers in a dict."""

    async def send_batch(self, records: Sequence[OutgoingRecord]) -> list[Position | TransportError]:
        for record in records:
            record.headers = list(dict(record.headers).items())
        return await super().send_batch(records)


class StopsAtTheFirstBadRecord(MemoryProducer):
    """Raises half way instead of answering."""

    async def send_batch(self, records: Sequence[OutgoingRecord]) -> list[Position | TransportError]:
        answers: list[Position | TransportError] = []
        for record in records:
            answers += await super().send_batch([record])
            if isinstance(answers[-1], TransportError):
                raise answers[-1]
        return answers


class CommitsByItself(MemoryConsumer):
    """What is polled is committed."""

    async def poll(self, *, max_records: int, timeout_ms: int) -> list[Record]:
        records = await super().poll(max_records=max_records, timeout_ms=timeout_ms)
        await self.commit({TopicPartition(record.topic, record.partition): record.offset + 1 for record in records})
        return records


class JumpsToTheStart(MemoryConsumer):
    """Skips silently what retention has removed."""

    def _take(self, limit: int) -> list[Record]:
        for tp, position in self._positions.items():
            self._positions[tp] = max(position, self._log.partition(tp).start)
        return super()._take(limit)


class ForgetsToPause(MemoryConsumer):
    """Pause does nothing."""

    def pause(self, partitions: frozenset[TopicPartition]) -> None:
        return


class StaysPaused(MemoryConsumer):
    """Pause outlives the assignment."""

    def _drop(self) -> None:
        paused = set(self._paused)
        super()._drop()
        self._paused |= paused


class SwallowsHookErrors(MemoryConsumer):
    """Only logs them, as aiokafka does."""

    def _raise_failure(self) -> None:
        self._failure = None


class CountsRecords(MemoryReader):
    """Reads until as many records came as there are offsets."""

    async def read(
        self, start: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]
    ) -> AsyncIterator[list[Record]]:
        wanted = sum(end[tp] - start[tp] for tp in start)
        async for batch in super().read(start, end):
            wanted -= len(batch)
            yield batch
        while wanted > 0:
            await asyncio.sleep(0.01)


class CreatesOnWrite(MemoryLog):
    """Topics appear by accident."""

    def append(self, outgoing: OutgoingRecord, *, now_ms: int) -> Position | TransportError:
        self.create_topic(outgoing.topic, 1)
        return super().append(outgoing, now_ms=now_ms)


class Broken(MemoryTransport):
    """A memory transport with one part replaced."""

    def __init__(self, part: type[Any]) -> None:
        super().__init__(SystemClock(), log=part() if issubclass(part, MemoryLog) else None)
        self._part = part

    def consumer(self, *, group: str, topics: Sequence[str], member: str | None = None, **hooks: Any) -> MemoryConsumer:
        kind = self._part if issubclass(self._part, MemoryConsumer) else MemoryConsumer
        on_assigned, on_revoked = hooks.get("on_assigned"), hooks.get("on_revoked")
        return kind(self.log, self._clock, self._group(group), topics, on_assigned, on_revoked, member)

    def producer(self, *, delivery_timeout_ms: int = 30_000) -> MemoryProducer:
        kind = self._part if issubclass(self._part, MemoryProducer) else MemoryProducer
        return kind(self.log, self._clock)

    def reader(self) -> MemoryReader:
        return self._part(self.log) if issubclass(self._part, MemoryReader) else MemoryReader(self.log)

    def _group(self, name: str) -> MemoryGroup:
        if issubclass(self._part, MemoryGroup) and name not in self.log._groups:
            self.log._groups[name] = self._part(name, self.log, self._clock, rebalance_timeout_ms=10_000)
        return super()._group(name)


CAUGHT_BY: dict[type[Any], str] = {
    CommitsForAnyone: "a_zombie_cannot_commit_and_then_joins_anew",
    AssignsBeforeItRevokes: "revokes_from_the_old_owner_before_it_assigns_to_the_new",
    SwapsNeighbours: "starts_at_the_earliest_and_keeps_offset_order",
    MergesHeaders: "keeps_every_byte",
    StopsAtTheFirstBadRecord: "one_bad_record_does_not_stop_the_others",
    CommitsByItself: "commits_nothing_by_itself",
    JumpsToTheStart: "says_so_when_its_position_is_not_in_the_log",
    ForgetsToPause: "pause_holds_these_and_lets_others_flow",
    StaysPaused: "pause_is_forgotten_on_revoke",
    SwallowsHookErrors: "raises_from_poll_what_a_hook_raised_once",
    CountsRecords: "reading_ends_where_the_last_offsets_hold_no_record",
    CreatesOnWrite: "one_bad_record_does_not_stop_the_others",
}


@pytest.mark.parametrize("part", CAUGHT_BY, ids=lambda part: part.__name__)
async def test_the_suite_catches(part: type[Any], unique: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transport_bench.DEADLINE_S", 1.0)
    with pytest.raises((AssertionError, BridgeError, TimeoutError, pytest.fail.Exception)):
        async with Bench(MemoryTransportLab(unique, Broken(part))) as bench:
            await CHECKS[CAUGHT_BY[part]](bench)
