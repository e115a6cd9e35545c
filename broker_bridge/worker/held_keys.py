"""Keys that a dead letter holds (``on_dead = "hold"``): nothing of such a key runs until the letter was replayed
with success.

The dead message leaves a marker in the last retry lane. A marker is never tried. Each time it falls due the claim of
its message is looked at: still dead, or on its way again, and it goes round once more; completed, or no longer known,
and the key is free. So the hold survives crashes and rebalances by the same means as everything else that is parked.
"""

from __future__ import annotations

import asyncio

from broker_bridge.core.claim import ClaimState, ClaimView
from broker_bridge.errors import ClaimUnreadableError, StoreError
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
        for marker, held in zip(markers, await self._are_held(markers), strict=True):
            if marker.part.gone:
                self._p.retire(marker, settled=False)
            elif held:
                self._p.report(marker, Parked(len(self._p.retry.lanes_ms) - 1))
            else:
                self._p.log.info(events.KEY_FREED, origin=str(marker.origin))
                self._p.unpark(marker)
                self._p.retire(marker, settled=True)

    async def _are_held(self, markers: list[Delivery]) -> list[bool]:
        """A claim that cannot be read holds its key: nobody knows that its message was replayed."""
        unreadable: set[bytes] = set()
        while not all(marker.part.gone for marker in markers):
            keys = [marker.claim_key for marker in markers if marker.claim_key not in unreadable]
            try:
                views = dict(zip(keys, await self._store.inspect(self._p.route.group, keys), strict=True))
                return [self._is_held(marker.claim_key, views) for marker in markers]
            except StoreError as error:
                self._p.metrics.store_error(self._p.route.name)
                self._p.log.warning(events.REDIS_LOST, code=error.code, error=str(error))
                if isinstance(error, ClaimUnreadableError) and error.claim_key in keys:
                    unreadable.add(error.claim_key)
                else:
                    await asyncio.sleep(_ASK_AGAIN_S)
        return [True] * len(markers)

    def _is_held(self, key: bytes, views: dict[bytes, ClaimView | None]) -> bool:
        if self._p.route.dead_letter.on_dead != "hold":
            return False
        if key not in views:
            return True
        view = views[key]
        return view is not None and view.state is not ClaimState.COMPLETED
