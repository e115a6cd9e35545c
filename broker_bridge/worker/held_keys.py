"""Keys that a dead letter holds (``on_dead = "hold"``): nothing of such a key runs until the letter was replayed
with success.

The dead message leaves a marker in the last retry lane. A marker is never tried. Each time it falls due the claim of
its message is looked at: still dead, or on its way again, and it goes round once more; completed, or no longer known,
and the key is free. So the hold survives crashes and rebalances by the same means as everything else that is parked.
"""

from __future__ import annotations

import asyncio

from broker_bridge.core.claim import ClaimState, ClaimView
from broker_bridge.errors import StoreError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.observability import events
from broker_bridge.worker.delivery import Delivery
from broker_bridge.worker.pipeline import Parked, Pipeline

_ASK_AGAIN_S = 1.0


class HeldKeys:
    """Decides on markers that fell due."""

    def __init__(self, pipeline: Pipeline, store: IdempotencyStore) -> None:
        self._p = pipeline
        self._store = store

    async def look(self, markers: list[Delivery]) -> None:
        """Send each round again, or free its key. Waits until the store answers."""
        views = await self._inspect(markers)
        for marker, view in zip(markers, views, strict=True):
            if marker.part.gone:
                self._p.retire(marker, settled=False)
            elif self._still_held(view):
                self._p.report(marker, Parked(len(self._p.retry.lanes_ms) - 1))
            else:
                self._p.log.info(events.KEY_FREED, origin=str(marker.origin))
                self._p.unpark(marker)
                self._p.retire(marker, settled=True)

    def _still_held(self, view: ClaimView | None) -> bool:
        if self._p.route.dead_letter.on_dead != "hold":
            return False
        return view is not None and view.state is not ClaimState.COMPLETED

    async def _inspect(self, markers: list[Delivery]) -> list[ClaimView | None]:
        while not all(marker.part.gone for marker in markers):
            try:
                return await self._store.inspect(self._p.route.group, [marker.claim_key for marker in markers])
            except StoreError as error:
                self._p.metrics.store_error(self._p.route.name)
                self._p.log.warning(events.REDIS_LOST, code=error.code, error=str(error))
                await asyncio.sleep(_ASK_AGAIN_S)
        return [None] * len(markers)
