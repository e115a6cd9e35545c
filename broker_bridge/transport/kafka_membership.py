"""Being a member of a group: which partitions are ours, since when, and what must not happen in between.

aiokafka rejoins in the background and only logs what a listener raises. This listener keeps the order::

    aiokafka   begin_reassignment ─ on_partitions_revoked ──────────┐ JoinGroup, SyncGroup ─ on_partitions_assigned
    state      OWNING             │ REVOKING                        │ BETWEEN              │ OWNING
    poll       records            │ nothing .................................................│ records again
    commit     allowed            │ allowed (on_revoked commits)    │ LeaseLostError       │ allowed

Why commits are refused in BETWEEN: aiokafka stamps a commit with the generation it has when the request leaves, not
with the one the caller owned the partition in. A commit that slipped in after JoinGroup was answered would carry the
*new* generation and be accepted for a partition that now belongs to somebody else. For the same reason the listener
does not return before the commits in flight have been answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum

from aiokafka import ConsumerRebalanceListener
from aiokafka import TopicPartition as KafkaPartition

from broker_bridge.errors import LeaseLostError
from broker_bridge.message import TopicPartition
from broker_bridge.transport.base import PartitionsHook

_NONE: frozenset[TopicPartition] = frozenset()
Place = Callable[[frozenset[TopicPartition]], Awaitable[None]]


class _State(Enum):
    OWNING = "owning"
    REVOKING = "revoking"
    BETWEEN = "between"


class Membership(ConsumerRebalanceListener):  # type: ignore[misc]
    """The rebalance listener of one consumer. ``place`` gives new partitions a position before ``on_assigned`` runs."""

    def __init__(
        self,
        *,
        place: Place,
        group_generation: Callable[[], int],
        on_assigned: PartitionsHook | None,
        on_revoked: PartitionsHook | None,
        commit_wait_ms: int,
    ) -> None:
        self.settled = asyncio.Event()
        """Set while partitions are ours and ``on_assigned`` has returned."""
        self.held = _NONE
        self._told = _NONE
        self._hooks = asyncio.Lock()
        self._state = _State.BETWEEN
        self._place = place
        self._group_generation = group_generation
        self._generation = -1
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._commit_wait_ms = commit_wait_ms
        self._commits = 0
        self._no_commits = asyncio.Event()
        self._no_commits.set()
        self._revoking: asyncio.Future[None] | None = None
        self._failure: Exception | None = None

    async def on_partitions_revoked(self, revoked: Iterable[KafkaPartition]) -> None:
        """aiokafka is about to rejoin; what is named is what we hold, for every assignor is eager."""
        await self.revoke()

    async def on_partitions_assigned(self, assigned: Iterable[KafkaPartition]) -> None:
        """A new generation has begun."""
        self._revoking = None
        self.held = frozenset(TopicPartition(*tp) for tp in assigned)
        self._generation = self._group_generation()
        self._state = _State.OWNING
        async with self._hooks:
            await self._guarded(self._place, self.held)
            if self._state is _State.OWNING:  # not stopped meanwhile
                self._told = self.held
                await self._guarded(self._on_assigned, self._told)
        if self._state is _State.OWNING:
            self.settled.set()

    async def revoke(self) -> None:
        """Give up what is held. Whoever asks twice (rebalance and stop at once) waits for the same run of the hook."""
        if self._revoking is None:
            self._state = _State.REVOKING
            self.settled.clear()
            self._revoking = asyncio.ensure_future(self._give_up())
        await asyncio.shield(self._revoking)

    def refuse_foreign(self, partitions: Iterable[TopicPartition]) -> None:
        """Raise ``LeaseLostError`` for partitions that are not ours in the group's present generation."""
        foreign = [tp for tp in partitions if tp not in self.held]
        if foreign or self._state is _State.BETWEEN or self._group_generation() != self._generation:
            named = ", ".join(f"{tp.topic}/{tp.partition}" for tp in foreign) or "all partitions"
            raise LeaseLostError("the group has rebalanced since these records were read", where=named)

    @contextmanager
    def committing(self) -> Iterator[None]:
        """A commit is in flight inside."""
        self._commits += 1
        self._no_commits.clear()
        try:
            yield
        finally:
            self._commits -= 1
            if self._commits == 0:
                self._no_commits.set()

    def raise_failure(self) -> None:
        """Raise, once, what a hook raised."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    async def _give_up(self) -> None:
        async with self._hooks:  # stop() may come while on_assigned still runs
            await self._guarded(self._on_revoked, self._told)
            self._told = _NONE
        self._state, self.held = _State.BETWEEN, _NONE
        try:
            async with asyncio.timeout(self._commit_wait_ms / 1000):
                await self._no_commits.wait()
        except TimeoutError:
            return  # commit() has the same deadline and cancels itself

    async def _guarded(self, hook: PartitionsHook | None, partitions: frozenset[TopicPartition]) -> None:
        """What a hook raises cannot stop a rebalance; the next poll raises it."""
        if hook is None or not partitions:
            return
        try:
            await hook(partitions)
        except Exception as error:  # noqa: BLE001 - kept and raised by the next poll
            self._failure = error
