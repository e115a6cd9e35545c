"""A group member that reads a ``MemoryLog``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from broker_bridge.clock import Clock
from broker_bridge.errors import LeaseLostError, OffsetOutOfRangeError, TransportError
from broker_bridge.message import Record, TopicPartition
from broker_bridge.transport.base import PartitionsHook
from broker_bridge.transport.memory_group import MemoryGroup
from broker_bridge.transport.memory_log import MemoryLog

_NONE: frozenset[TopicPartition] = frozenset()


class MemoryConsumer:
    """``GroupConsumer`` in memory. Made by ``MemoryTransport.consumer``."""

    def __init__(
        self,
        log: MemoryLog,
        clock: Clock,
        group: MemoryGroup,
        topics: Sequence[str],
        on_assigned: PartitionsHook | None,
        on_revoked: PartitionsHook | None,
        member: str | None,
    ) -> None:
        self.member_id = member or group.new_member_id()
        self.topics = tuple(topics)
        self._log = log
        self._clock = clock
        self._group = group
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._held = _NONE
        self._generation = 0
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._rebalancing = False
        self._zombie = False
        self._replaced = False
        self._running = False
        self._revoking: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None

    @property
    def generation(self) -> int:
        """The group's generation that this member got its partitions in."""
        return self._generation

    async def start(self) -> None:
        """Join the group and return with partitions assigned."""
        self._log.check_available()
        for topic in self.topics:
            next(self._log.partitions(topic), None)
        self._running = True
        try:
            await self._group.join(self)
        except BaseException:  # cancelled: nobody would poll for this member
            self._running = False
            await self._group.leave(self)
            raise

    async def poll(self, *, max_records: int, timeout_ms: int) -> list[Record]:
        """See ``GroupConsumer.poll``. An evicted member finds out here, gives up what it held, and joins anew."""
        self._check_running()
        if self._zombie:
            await self._rejoin()
        deadline_ms = self._clock.now_ms() + timeout_ms
        while True:
            self._raise_failure()
            records = self._take(max_records) if self._log.available and not self._rebalancing else []
            left_ms = deadline_ms - self._clock.now_ms()
            if records or left_ms <= 0:
                if not records:
                    self._log.check_available()
                return records
            await self._log.wait_for_change(self._clock, timeout_ms=left_ms)
            if not self._running:
                return []

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See ``GroupConsumer.commit``."""
        self._log.check_available()
        self._group.commit(self, self._generation, offsets)

    def pause(self, partitions: frozenset[TopicPartition]) -> None:
        """See ``GroupConsumer.pause``."""
        self._paused |= partitions & self._held

    def resume(self, partitions: frozenset[TopicPartition]) -> None:
        """See ``GroupConsumer.resume``."""
        self._paused -= partitions
        self._log.changed()

    def assignment(self) -> frozenset[TopicPartition]:
        """See ``GroupConsumer.assignment``."""
        return self._held

    async def committed(self, partitions: frozenset[TopicPartition]) -> dict[TopicPartition, int | None]:
        """See ``GroupConsumer.committed``."""
        self._log.check_available()
        stored = self._log.committed.get(self._group.name, {})
        return {tp: stored.get(tp) for tp in partitions}

    async def positions(self, partitions: frozenset[TopicPartition]) -> dict[TopicPartition, int]:
        """See ``GroupConsumer.positions``."""
        self._log.check_available()
        if missing := partitions - self._positions.keys():
            raise LeaseLostError("not ours any more", where=", ".join(f"{tp.topic}/{tp.partition}" for tp in missing))
        return {tp: self._positions[tp] for tp in partitions}

    async def stop(self) -> None:
        """See ``GroupConsumer.stop``."""
        if not self._running:
            return
        await self.revoke()
        self._drop()
        self._running = False
        await self._group.leave(self)
        self._log.changed()
        self._raise_failure()

    # -- what the group asks

    async def revoke(self) -> None:
        """Run ``on_revoked`` while everything held is still ours; nothing is given out meanwhile."""
        self._rebalancing = True
        if self._revoking is None:  # one run of the hook, however many wait for it
            self._revoking = asyncio.ensure_future(self._call(self._on_revoked))
        await asyncio.shield(self._revoking)

    async def assign(self, partitions: frozenset[TopicPartition], generation: int) -> None:
        """Start at the committed offset of each, or at the earliest where nothing was committed."""
        if not self._running:
            return
        stored = self._log.committed.get(self._group.name, {})
        self._drop()
        self._held, self._generation = partitions, generation
        self._positions = {tp: stored.get(tp, self._log.partition(tp).start) for tp in sorted(partitions)}
        await self._call(self._on_assigned)
        self._rebalancing = False

    def evicted(self, *, replaced: bool) -> None:
        """Go on in the belief that nothing happened, until the next poll."""
        self._zombie = True
        self._replaced = replaced

    async def _rejoin(self) -> None:
        if self._replaced:
            raise LeaseLostError("another consumer joined under this static member id", where=self.member_id)
        await self.revoke()
        self._drop()
        self._zombie = False
        await self._group.join(self)

    def _drop(self) -> None:
        self._held, self._positions = _NONE, {}
        self._paused.clear()
        self._revoking = None

    async def _call(self, hook: PartitionsHook | None) -> None:
        """Run a hook; what it raises comes out of the next ``poll``, for a rebalance cannot be stopped by it."""
        if hook is None or not self._held:
            return
        try:
            await hook(self._held)
        except Exception as error:  # noqa: BLE001 - kept and raised by the next poll
            self._failure = error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _check_running(self) -> None:
        if not self._running:
            raise TransportError("the consumer is not started, or was stopped", remedy="call start() first")

    def _take(self, limit: int) -> list[Record]:
        """Up to ``limit`` records, the partition served last goes to the back of the queue."""
        taken: list[Record] = []
        for tp, position in list(self._positions.items()):
            if tp in self._paused:
                continue
            partition = self._log.partition(tp)
            if not partition.start <= position <= partition.end:
                if taken:
                    break
                raise OffsetOutOfRangeError(
                    f"position {position} is not in the log, which holds {partition.start} to {partition.end}",
                    where=f"{tp.topic}/{tp.partition}/{position}",
                )
            found = partition.between(position, partition.end, limit - len(taken))
            if found:
                del self._positions[tp]
                self._positions[tp] = found[-1].offset + 1
                taken += found
            if len(taken) >= limit:
                break
        return taken
