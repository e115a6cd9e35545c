"""What a run leaves in the operations topic: that it began, was paused, and how it ended.

Its start is recorded before anything is sent. A run without an end was killed, or still goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from broker_bridge.core.operation import Action, Operation, OperationFilter
from broker_bridge.core.replay_pace import PaceLimits
from broker_bridge.core.timestamps import rfc3339
from broker_bridge.replay.operations_log import OperationsLog
from broker_bridge.replay.plan_file import Plan


class MakeOperation(Protocol):
    """Makes an operation of whoever gives the command, now."""

    def __call__(
        self,
        action: Action,
        *,
        why: str = "",
        by: str = "",
        plan_id: str = "",
        plan_sha256: str = "",
        counts: Mapping[str, int] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Operation:
        """The operation."""


@dataclass(slots=True)
class RunRecorder:
    """Records one run of a plan. Raises ``OperationUnrecordedError``: the run must then not begin."""

    log: OperationsLog
    make: MakeOperation
    plan: Plan
    limits: PaceLimits = field(default_factory=PaceLimits)

    async def started(self, *, items: int, sent_before: int) -> None:
        """Before anything is sent."""
        limits = self.limits
        details = {"rate_per_s": limits.rate_per_s, "max_in_lane": limits.max_in_lane, "canary": limits.canary}
        await self._add(
            Action.REPLAY_STARTED, self.plan.header.why, {"items": items, "sent_before": sent_before}, details
        )

    async def paused(self, *, sent: int, order: Operation) -> None:
        """When an order to pause is followed."""
        details = {"order": order.id, "ordered_by": f"{order.by}@{order.host}"}
        await self._add(Action.REPLAY_PAUSED, order.why, {"sent": sent}, details)

    async def ended(self, *, outcome: str, counts: Mapping[str, int]) -> None:
        """``outcome`` is how a run ends, or the code of the error that ended it."""
        await self._add(Action.REPLAY_ENDED, "", counts, {"outcome": outcome})

    async def who_runs(self) -> str:
        """Who began the latest run of the plan, where and when; empty where nobody knows."""
        found = ""
        wanted = OperationFilter(plan_id=self.plan.id, actions=(Action.REPLAY_STARTED,))
        async for one in self.log.read(wanted):
            found = f"{one.by}@{one.host} began it at {rfc3339(one.at_ms)}"
        return found

    async def _add(self, action: Action, why: str, counts: Mapping[str, int], details: Mapping[str, object]) -> None:
        end = self.plan.end
        operation = self.make(
            action, why=why, plan_id=end.plan_id, plan_sha256=end.sha256, counts=counts, details=details
        )
        await self.log.record(operation)
