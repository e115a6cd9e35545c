"""Keeping leases alive while messages wait for their turn or their handler runs long."""

from __future__ import annotations

import asyncio

from broker_bridge.errors import StoreError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.observability import events
from broker_bridge.worker.pipeline import Pipeline


class LeaseKeeper:
    """Renews every claim in hand, three times a lease, in one round trip.

    Not that of a handler that goes on past its deadline and one lease more (it ignores being cancelled, or the loop was
    blocked): its claim runs out, so that the message is not locked for ever (I18), and it is told so before it does::

        started ──── deadline: cancelled ──── cutoff: ``lost`` ──── last renewal runs out: anybody may claim
                                │◀── one lease ──▶│◀── less than one lease ──▶│
    """

    def __init__(self, pipeline: Pipeline, store: IdempotencyStore) -> None:
        self._p = pipeline
        self._store = store

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            await asyncio.sleep(self._p.route.claims.lease_ms / 3000)
            try:
                await self._renew()
            except StoreError as error:
                self._p.metrics.store_error(self._p.route.name)
                self._p.log.warning(events.REDIS_LOST, code=error.code, error=str(error))

    async def _renew(self) -> None:
        now_s = asyncio.get_running_loop().time()
        deliveries = []
        for delivery in self._p.held.values():
            if now_s < delivery.overrun_s:
                deliveries.append(delivery)
            else:
                self._p.lost(delivery, "overrun")
        if not deliveries:
            return
        held = [delivery.held() for delivery in deliveries]
        until_s = asyncio.get_running_loop().time() + self._p.route.claims.lease_ms / 1000
        kept = await self._store.renew(self._p.route.group, held, lease_ms=self._p.route.claims.lease_ms)
        for delivery, ours in zip(deliveries, kept, strict=True):
            if ours:
                delivery.lease_end_s = until_s
            elif self._p.held.get(delivery.claim_key) is delivery:
                self._p.lost(delivery, "taken")
