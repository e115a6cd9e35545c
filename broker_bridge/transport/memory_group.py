"""A consumer group in memory: members, generations, and the rebalance between them.

A rebalance is eager, as with every assignor of aiokafka: everything is revoked from everybody, then assigned anew::

    old owner      on_revoked(all it held) ── may commit ──┐
    old owner 2    on_revoked(...)  ───────────────────────┤ all returned, or the rebalance timeout passed
    group                                                  └ generation + 1, owners change
    everybody                                                on_assigned(all it gets) ── poll gives records again

Whoever is not back from ``on_revoked`` in time is out of the group: the others do not wait, its commits are refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Protocol

from broker_bridge.clock import Clock
from broker_bridge.errors import LeaseLostError
from broker_bridge.message import TopicPartition
from broker_bridge.transport.range_assignment import assign_ranges


class Member(Protocol):
    """What the group needs of a consumer. The callbacks never raise."""

    member_id: str
    topics: tuple[str, ...]

    async def revoke(self) -> None:
        """Stop giving out records, run ``on_revoked`` for what is held."""

    async def assign(self, partitions: frozenset[TopicPartition], generation: int) -> None:
        """Take these over, run ``on_assigned``, give out records again."""

    def evicted(self, *, replaced: bool) -> None:
        """The group goes on without this member; ``replaced``: another one has taken its static id."""


class Cluster(Protocol):
    """What the group needs of the log."""

    committed: dict[str, dict[TopicPartition, int]]

    def partition_count(self, topic: str) -> int | None:
        """Partition count, None where the topic does not exist."""

    def changed(self) -> None:
        """Wake whoever waits for records or partitions."""


class MemoryGroup:
    """One group of one log."""

    def __init__(self, name: str, log: Cluster, clock: Clock, *, rebalance_timeout_ms: int) -> None:
        self.name = name
        self.generation = 0
        self._log = log
        self._clock = clock
        self._rebalance_timeout_ms = rebalance_timeout_ms
        self._members: dict[str, Member] = {}
        self._owners: dict[TopicPartition, str] = {}
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._joined = 0

    def new_member_id(self) -> str:
        """An id for a member without a static one."""
        self._joined += 1
        return f"member-{self._joined}"

    def members(self) -> list[str]:
        """The ids of those in the group, sorted."""
        return sorted(self._members)

    def owner(self, tp: TopicPartition) -> str | None:
        """The id of the member the partition belongs to."""
        return self._owners.get(tp)

    async def join(self, member: Member) -> None:
        """Add the member and return when it has its partitions. A member of the same id is pushed out."""
        earlier = self._members.get(member.member_id)
        if earlier is not None and earlier is not member:
            self._push_out(earlier, replaced=True)
        self._members[member.member_id] = member
        await self._in_background(self._rebalance())

    async def leave(self, member: Member) -> None:
        """Take the member out; the others share what it had. The member has run its own ``on_revoked`` before."""
        if self._members.get(member.member_id) is not member:
            return
        del self._members[member.member_id]
        self._disown(member.member_id)
        if self._members:
            await self._in_background(self._rebalance())

    async def evict(self, member_id: str) -> None:
        """Take the member out without telling it, as a session timeout would. Returns when the others are served."""
        self._push_out(self._members[member_id], replaced=False)
        if self._members:
            await self._in_background(self._rebalance())

    def commit(self, member: Member, generation: int, offsets: Mapping[TopicPartition, int]) -> None:
        """Write the offsets down. Raises ``LeaseLostError`` (and writes none) unless all of them are the member's."""
        current = self._members.get(member.member_id) is member and generation == self.generation
        lost = [tp for tp in offsets if not current or self._owners.get(tp) != member.member_id]
        if lost:
            names = ", ".join(f"{tp.topic}/{tp.partition}" for tp in lost)
            raise LeaseLostError(
                f"commit refused: generation {generation} of {member.member_id}, the group is at {self.generation}",
                where=names,
            )
        self._log.committed.setdefault(self.name, {}).update(offsets)

    def _push_out(self, member: Member, *, replaced: bool) -> None:
        del self._members[member.member_id]
        self._disown(member.member_id)
        member.evicted(replaced=replaced)

    def _disown(self, member_id: str) -> None:
        self._owners = {tp: owner for tp, owner in self._owners.items() if owner != member_id}

    async def _rebalance(self) -> None:
        async with self._lock:
            await self._revoke_all()
            self.generation += 1
            shares = self._shares()
            members = dict(self._members)
            self._owners = {tp: member_id for member_id, share in shares.items() for tp in share}
            await asyncio.gather(*(members[name].assign(share, self.generation) for name, share in shares.items()))
            self._log.changed()

    async def _revoke_all(self) -> None:
        revoking = {self._start(member.revoke()): member for member in self._members.values()}
        if not revoking:
            return
        timer = asyncio.ensure_future(self._clock.sleep_ms(self._rebalance_timeout_ms))
        pending: Iterable[asyncio.Task[None]] = set(revoking)
        while pending and not timer.done():
            done, _ = await asyncio.wait({*pending, timer}, return_when=asyncio.FIRST_COMPLETED)
            pending = {task for task in pending if task not in done}
        timer.cancel()
        for task in pending:
            late = revoking[task]
            if self._members.get(late.member_id) is late:
                self._push_out(late, replaced=False)

    def _shares(self) -> dict[str, frozenset[TopicPartition]]:
        topics = {topic for member in self._members.values() for topic in member.topics}
        counts = {topic: self._log.partition_count(topic) or 0 for topic in topics}
        return assign_ranges({name: member.topics for name, member in self._members.items()}, counts)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """A rebalance goes on even where the one who caused it is cancelled."""
        await asyncio.shield(self._start(work))
