"""Pausing a run from anywhere: an order is a record of the operations topic, and the run follows the topic."""

from __future__ import annotations

from typing import Final

from broker_bridge.core.operation import Action, Operation, OperationFilter
from broker_bridge.replay.operations_log import OperationsLog

_ORDERS: Final = OperationFilter(actions=(Action.REPLAY_PAUSE_REQUESTED, Action.REPLAY_RESUME_REQUESTED))


class PauseOrders:
    """The orders for one plan that come after ``start``: whoever runs a plan anew wants it to run."""

    def __init__(self, log: OperationsLog, plan_id: str) -> None:
        self._log = log
        self._plan_id = plan_id
        self._next = 0
        self._pause: Operation | None = None

    async def start(self) -> None:
        """What was ordered before does not count."""
        extent = await self._log.extent()
        self._next = extent.end if extent else 0

    async def pause(self) -> Operation | None:
        """The order to pause that holds now, None where the run may go on."""
        extent = await self._log.extent()
        if extent is not None and extent.end > self._next:
            async for order in self._log.read(_ORDERS, start=self._next):
                if order.plan_id == self._plan_id:
                    self._pause = order if order.action == Action.REPLAY_PAUSE_REQUESTED else None
            self._next = extent.end
        return self._pause
