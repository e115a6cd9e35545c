"""Sharing a target's retry budget: what was done here is counted in the store, and what all did comes back.

::

    this worker   3 first, 1 retry ─┐                              ┌─ left here: the budget less what all did
    another       9 first, 2 retries┴─▶ tally of the target ──▶ 12, 3 ─┴─ and there
"""

from __future__ import annotations

import asyncio

from broker_bridge.errors import StoreError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.observability import events
from broker_bridge.worker.pipeline import Pipeline

SHARE_EVERY_MS = 1_000


class BudgetKeeper:
    """Reports once a second, also when nothing was tried: the others' attempts leave the window too."""

    def __init__(self, pipeline: Pipeline, store: IdempotencyStore) -> None:
        self._p = pipeline
        self._store = store
        self._name = pipeline.route.target_identity

    async def run(self) -> None:
        """Share until cancelled."""
        while True:
            await self._share()
            self._p.metrics.set_budget_left(self._p.route.name, self._p.budget.left(self._p.ticks_ms))
            await asyncio.sleep(SHARE_EVERY_MS / 1000)

    async def _share(self) -> None:
        """Without the store each worker has the budget to itself, once it has not heard of the others for a window.
        Counts that may or may not have arrived are not sent again: twice would be worse than not at all."""
        first, retries = self._p.budget.unreported()
        try:
            found = await self._store.tally(self._name, first, retries, window_ms=self._p.budget.window_ms)
        except StoreError as error:
            self._p.metrics.store_error(self._p.route.name)
            self._p.log.debug(events.REDIS_LOST, code=error.code, error=str(error))
        else:
            self._p.budget.report(*found, self._p.ticks_ms)
