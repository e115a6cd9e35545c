"""Giving back claims that were never used, so that their next owner need not wait for the lease to run out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from broker_bridge.core.claim import SettleKind, Settlement
from broker_bridge.errors import StoreError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.observability import events
from broker_bridge.worker.delivery import Delivery
from broker_bridge.worker.pipeline import Pipeline

_LONGEST_S = 2.0
"""How long it may take; claims run out by themselves."""


async def give_back(pipeline: Pipeline, store: IdempotencyStore, unused: Iterable[Delivery]) -> None:
    """Release the claims of deliveries that were not tried. Best effort.

    A claim that runs out instead would count as a crash of its holder, and a few of those set a message aside that was
    never tried.
    """
    claimed = [delivery for delivery in unused if delivery.token]
    if not claimed:
        return
    settlements = [
        Settlement(d.claim_key, d.nonce, d.token, SettleKind.RELEASE, d.claimed_attempt, tries=d.tries) for d in claimed
    ]
    tried = [delivery.held() for delivery in claimed if delivery.attempt]  # an outage may have kept attempts from it
    route = pipeline.route
    try:
        async with asyncio.timeout(_LONGEST_S):
            if tried:
                await store.renew(route.group, tried, lease_ms=route.claims.lease_ms)
            await store.settle(route.group, settlements, ttl_ms=route.claims.ttl_ms)
    except (StoreError, TimeoutError):
        pipeline.log.warning(events.REDIS_LOST, reason="claims not given back; they run out by themselves")
