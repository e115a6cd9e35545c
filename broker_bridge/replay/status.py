"""What became of a plan's items, by the claims and the redrive lane alone: no run has to report anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from broker_bridge.clock import Clock
from broker_bridge.core.identity import replay_tag
from broker_bridge.core.replay_plan import PlanItem
from broker_bridge.core.replay_state import BAD, OPEN, ItemStatus, after_sending
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.message import TopicPartition
from broker_bridge.replay.plan_file import Plan
from broker_bridge.replay.redrive_lane import sent_by
from broker_bridge.transport.base import LogReader

LISTED = 100
POLL_MS = 500


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
        """Where every item stands now.

        The lane first, then the group's offsets in it, then the claims: a worker settles the claim before it commits,
        so an item that the group has passed has its settled claim by the time the claims are read.
        """
        lane, group, tag = plan.header.destination, plan.header.group, replay_tag(plan.id)
        sent = await sent_by(plan, self._reader)
        committed = await self._reader.group_offsets(group, [lane])
        status = ReplayStatus(plan.id, plan.end.items)
        items = iter(plan.items())
        while chunk := list(islice(items, 1_000)):
            claims = await self._store.inspect(group, [bytes.fromhex(item.claim) for item in chunk])
            for item, claim in zip(chunk, claims, strict=True):
                found = after_sending(
                    item,
                    claim,
                    replay=tag,
                    lane_offset=sent.get((item.partition, item.offset)),
                    committed=committed.get(TopicPartition(lane, item.partition)) or 0,
                )
                status.counts[found] += 1
                if found in BAD and len(status.bad) < LISTED:
                    status.bad.append((item, found))
        return status

    async def wait(
        self, plan: Plan, *, timeout_ms: int, progress: Callable[[ReplayStatus], None] | None = None
    ) -> ReplayStatus:
        """Read again and again until all is settled or ``timeout_ms`` has passed; the last status read."""
        deadline_ms = self._clock.now_ms() + timeout_ms
        while True:
            status = await self.read(plan)
            if progress is not None:
                progress(status)
            left_ms = deadline_ms - self._clock.now_ms()
            if status.is_settled or left_ms <= 0:
                return status
            await self._clock.sleep_ms(min(POLL_MS, left_ms))
