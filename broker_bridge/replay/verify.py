"""Verifying a replay: what the plan predicted against what came of it, message by message.

Looked at are every item of the plan, every letter that the plan left alone, and every record in the redrive lane under
the plan's id. Nothing that a run reported is believed: the claims, the lane and the group's offsets say it all.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from broker_bridge.clock import Clock
from broker_bridge.core.replay_verdict import Comparison
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.message import Position
from broker_bridge.replay.outcomes import committed_in_lane, item_outcomes, skipped_outcomes
from broker_bridge.replay.plan_file import Plan
from broker_bridge.replay.redrive_lane import lane_content
from broker_bridge.replay.status import POLL_MS
from broker_bridge.transport.base import LogReader


@dataclass(slots=True)
class Verification:
    """What was found. ``records`` is how many records of the plan each partition of the lane holds, ``foreign_at`` the
    first that are not of the plan, each with the reason."""

    plan_id: str
    items: int
    skipped: int
    comparison: Comparison = field(default_factory=Comparison)
    records: dict[int, int] = field(default_factory=dict)
    foreign_at: list[tuple[Position, str]] = field(default_factory=list)


class Verifier:
    """Verifies plans of one group. ``reader`` and ``store`` are started by the caller."""

    def __init__(self, *, reader: LogReader, store: IdempotencyStore, clock: Clock) -> None:
        self._reader = reader
        self._store = store
        self._clock = clock

    async def verify(self, plan: Plan) -> Verification:
        """Compare once, as things are now."""
        lane = await lane_content(plan, self._reader)
        committed = await committed_in_lane(plan, self._reader)
        found = Verification(
            plan.id, plan.end.items, plan.end.skipped, records=dict(sorted(lane.records.items())),
            foreign_at=lane.foreign_at,
        )  # fmt: skip
        comparison = found.comparison
        comparison.copies, comparison.foreign = lane.copies, lane.foreign
        async with aclosing(item_outcomes(plan, lane, committed, self._store)) as outcomes:
            async for batch in outcomes:
                for _, item, status in batch:
                    comparison.add(item, status)
        async with aclosing(skipped_outcomes(plan, self._store)) as letters:
            async for group in letters:
                for letter, fate in group:
                    comparison.add_skipped(letter, fate)
        return found

    async def wait(
        self, plan: Plan, *, timeout_ms: int, progress: Callable[[Verification], None] | None = None
    ) -> Verification:
        """Compare again and again until all is settled or ``timeout_ms`` has passed; the last comparison."""
        deadline_ms = self._clock.now_ms() + timeout_ms
        while True:
            began_ms = self._clock.now_ms()
            found = await self.verify(plan)
            if progress is not None:
                progress(found)
            now_ms = self._clock.now_ms()
            left_ms = deadline_ms - now_ms
            if found.comparison.is_settled or left_ms <= 0:
                return found
            await self._clock.sleep_ms(min(max(POLL_MS, now_ms - began_ms), left_ms))
