"""What becomes of a replay while it runs, seen from outside: by the group's offsets, the claims, the dead letters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from broker_bridge import headers as h
from broker_bridge.clock import Clock
from broker_bridge.core.identity import replay_tag
from broker_bridge.core.replay_pace import LaneView, PaceLimits, Phase
from broker_bridge.core.replay_plan import PlanItem
from broker_bridge.core.replay_state import OPEN, ItemStatus, after_sending, claim_of
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.message import TopicPartition
from broker_bridge.replay.plan_file import Plan
from broker_bridge.transport.base import LogReader

TargetIsAway = Callable[[], Awaitable[bool]]
"""Whether a worker says that its breaker is open."""


class LaneWatch:
    """Makes the ``LaneView`` that a pace decides by. Nothing is asked that the limits do not need."""

    def __init__(
        self,
        plan: Plan,
        limits: PaceLimits,
        *,
        reader: LogReader,
        store: IdempotencyStore,
        clock: Clock,
        target_is_away: TargetIsAway | None = None,
    ) -> None:
        self._plan = plan
        self._limits = limits
        self._reader = reader
        self._store = store
        self._clock = clock
        self._target_is_away = target_is_away
        self._canary: list[PlanItem] = []
        self._letters_read: dict[TopicPartition, int] = {}
        self._died = 0

    async def start(self) -> None:
        """Dead letters count from here on."""
        self._letters_read = {tp: end for tp, (_, end) in (await self._reader.offsets([self._dead_letters])).items()}

    def watch(self, items: Iterable[PlanItem]) -> None:
        """These items of the canary are in the lane."""
        self._canary.extend(items)

    async def look(self, phase: Phase) -> LaneView:
        """How things are now."""
        in_lane = read_to = canary_open = canary_died = 0
        lane = self._plan.header.destination
        if self._limits.max_in_lane is not None:
            committed = await self._reader.group_offsets(self._plan.header.group, [lane])
            bounds = await self._reader.offsets([lane])
            in_lane = sum(max(0, end - max(first, committed.get(tp) or 0)) for tp, (first, end) in bounds.items())
            read_to = sum(offset or 0 for offset in committed.values())
        if self._canary and phase is Phase.WATCHING:
            canary_open, canary_died = await self._canary_stands()
        await self._count_dead()
        is_away = self._target_is_away is not None and await self._target_is_away()
        return LaneView(self._clock.now_ms(), in_lane, read_to, self._died, canary_open, canary_died, is_away)

    @property
    def _dead_letters(self) -> str:
        return self._plan.header.dead_letter_topic

    async def _canary_stands(self) -> tuple[int, int]:
        plan, header, tag = self._plan, self._plan.header, replay_tag(self._plan.id)
        keys = [claim_of(item, plan.id, namespace=header.topic) for item in self._canary]
        claims = await self._store.inspect(header.group, keys)
        found = [
            # Which place it has in the lane does not matter: without a settled claim an item is open either way.
            after_sending(item, claim, header=header, replay=tag, lane_offset=None, committed=0)
            for item, claim in zip(self._canary, claims, strict=True)
        ]
        return sum(one in OPEN for one in found), sum(one is ItemStatus.DEAD_AGAIN for one in found)

    async def _count_dead(self) -> None:
        """Count the letters of this replay among those that were written since the last look."""
        bounds = await self._reader.offsets([self._dead_letters])
        start = {tp: max(first, self._letters_read.get(tp, first)) for tp, (first, _) in bounds.items()}
        end = {tp: after for tp, (_, after) in bounds.items()}
        if any(start[tp] < end[tp] for tp in start):
            ours = self._plan.id.encode()
            async for records in self._reader.read(start, end):
                self._died += sum(dict(record.headers).get(h.REPLAY_ID) == ours for record in records)
        self._letters_read = end
