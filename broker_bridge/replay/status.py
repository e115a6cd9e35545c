"""What became of a plan's items, by the claims and the redrive lane alone: no run has to report anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from broker_bridge.clock import Clock
from broker_bridge.core.replay_plan import PlanItem
from broker_bridge.core.replay_state import BAD, OPEN, ItemStatus
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.replay.outcomes import committed_in_lane, item_outcomes
from broker_bridge.replay.plan_file import Plan
from broker_bridge.replay.redrive_lane import lane_content
from broker_bridge.transport.base import LogReader

LISTED: Final = 100
POLL_MS: Final = 500


@dataclass(slots=True)
class ReplayStatus:
    """Counts of a plan's items; of those that went wrong the first ``LISTED`` are listed."""

    plan_id: str
    items: int
    counts: Counter[ItemStatus] = field(default_factory=Counter)
    bad: list[tuple[PlanItem, ItemStatus]] = field(default_factory=list)

    @property
    def is_settled(self) -> bool:
        """Nothing of it is on its way any more, and everything was sent."""
        return not any(self.counts[status] for status in OPEN)

    @property
    def is_good(self) -> bool:
        """Settled, and nothing died again or went missing."""
        return self.is_settled and not any(self.counts[status] for status in BAD)


class StatusReader:
    """Reads the status of plans of one group. ``reader`` and ``store`` are started by the caller."""

    def __init__(self, *, reader: LogReader, store: IdempotencyStore, clock: Clock) -> None:
        self._reader = reader
        self._store = store
        self._clock = clock

    async def read(self, plan: Plan) -> ReplayStatus:
        """Where every item stands now."""
        lane = await lane_content(plan, self._reader)
        committed = await committed_in_lane(plan, self._reader)
        status = ReplayStatus(plan.id, plan.end.items)
        async with aclosing(item_outcomes(plan, lane, committed, self._store)) as outcomes:
            async for batch in outcomes:
                for _, item, found in batch:
                    status.counts[found] += 1
                    if found in BAD and len(status.bad) < LISTED:
                        status.bad.append((item, found))
        return status

    async def wait(
        self, plan: Plan, *, timeout_ms: int, progress: Callable[[ReplayStatus], None] | None = None
    ) -> ReplayStatus:
        """Read again and again until all is settled or ``timeout_ms`` has passed; the last status read.

        A large plan takes long to read: what is waited between two looks grows with what a look took.
        """
        deadline_ms = self._clock.now_ms() + timeout_ms
        while True:
            began_ms = self._clock.now_ms()
            status = await self.read(plan)
            if progress is not None:
                progress(status)
            now_ms = self._clock.now_ms()
            left_ms = deadline_ms - now_ms
            if status.is_settled or left_ms <= 0:
                return status
            await self._clock.sleep_ms(min(max(POLL_MS, now_ms - began_ms), left_ms))
