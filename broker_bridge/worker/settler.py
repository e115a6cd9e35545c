"""What becomes of attempts, second half: once Kafka has acknowledged what was sent, claims are settled, then the
watermark moves. One settle a batch, while the publisher sends the next.

A crash between any two of these steps repeats the later ones and never skips one::

    effect ── send output/retry/dead letter ── ack ── settle claim ── watermark ── commit
           │                                       │               │
           W1: effect may repeat                   copy may repeat  record read again, skipped as done
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from broker_bridge.core.claim import MAX_ATTEMPT, STALE_DETAIL, SettleKind, Settlement, SettleStatus
from broker_bridge.core.identity import version_key
from broker_bridge.core.retry import backoff_ms
from broker_bridge.errors import StoreError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.observability import events
from broker_bridge.worker.claim_stage import DUPLICATE, PAUSED_BY_STORE
from broker_bridge.worker.delivery import Delivery
from broker_bridge.worker.outcome import Outcome, OutcomePlanner
from broker_bridge.worker.pipeline import Pipeline
from broker_bridge.worker.stale_replays import StaleReplays

T = TypeVar("T")

_BASE_MS = 50
_MAX_MS = 2_000


class Settler:
    """The last stage of a route."""

    def __init__(
        self, pipeline: Pipeline, planner: OutcomePlanner, store: IdempotencyStore, stale: StaleReplays
    ) -> None:
        self._p = pipeline
        self._planner = planner
        self._store = store
        self._stale = stale
        self._batches: asyncio.Queue[tuple[list[Delivery], list[Outcome]]] = asyncio.Queue(maxsize=1)

    async def submit(self, answered: list[Delivery], outcomes: list[Outcome]) -> None:
        """Settle these next. Waits while another batch waits."""
        await self._batches.put((answered, outcomes))

    async def run(self) -> None:
        """Settle batches until cancelled."""
        while True:
            answered, outcomes = await self._batches.get()
            await self._settle(answered, outcomes)

    async def _settle(self, answered: list[Delivery], outcomes: list[Outcome]) -> None:
        sent = [outcome for outcome in outcomes if not outcome.given_up]
        await self._write_released_down(sent)
        if self._stale.keeps_versions:
            await self._keep_versions(answered)
        await self._settle_claims(answered, sent)
        self._complete(answered)
        self._leave(outcomes)
        self._p.room_made.wake()
        if not self._p.in_flight:
            self._p.drained.wake()

    async def _keep_versions(self, answered: list[Delivery]) -> None:
        """Which versions were completed: after the effect, before the key is free (``core.newest_version``)."""
        route, newest = self._p.route, dict[bytes, int]()
        for delivery in answered:
            key, version = delivery.record.key, delivery.version
            if key is not None and version is not None and not delivery.turned_away:
                place = version_key(key, namespace=route.topic)
                newest[place] = max(version, newest.get(place, version))
        if newest:
            await self._until_answered(
                "advance", lambda: self._store.advance(route.group, newest, ttl_ms=route.claims.ttl_ms)
            )
            self._stale.written(answered)

    async def _settle_claims(self, answered: list[Delivery], outcomes: list[Outcome]) -> None:
        holding = [outcome for outcome in outcomes if outcome.delivery.token]
        settlements = [_completion(delivery) for delivery in answered]
        settlements += [outcome.settlement() for outcome in holding]
        if not settlements:
            return
        route = self._p.route
        statuses = await self._until_answered(
            "settle", lambda: self._store.settle(route.group, settlements, ttl_ms=route.claims.ttl_ms)
        )
        if SettleStatus.STALE in statuses:
            deliveries = answered + [outcome.delivery for outcome in holding]
            self._tell_stale(deliveries, settlements, statuses)

    def _tell_stale(
        self, deliveries: Sequence[Delivery], settlements: Sequence[Settlement], statuses: Sequence[SettleStatus]
    ) -> None:
        for delivery, settlement, status in zip(deliveries, settlements, statuses, strict=True):
            if status is SettleStatus.STALE:
                self._p.metrics.stale(self._p.route.name)
                self._p.log.warning(
                    events.CLAIM_STALE,
                    origin=str(delivery.origin),
                    fencing_token=delivery.token,
                    state=settlement.kind.name.lower(),
                )

    async def _write_released_down(self, outcomes: Sequence[Outcome]) -> None:
        """Letting go of a claim keeps the attempts it knows of: those that an outage kept from it must not be lost."""
        held = [outcome.delivery.held() for outcome in outcomes if outcome.released and outcome.delivery.token]
        if held:
            route = self._p.route
            await self._until_answered(
                "renew", lambda: self._store.renew(route.group, held, lease_ms=route.claims.lease_ms)
            )

    async def _until_answered(self, op: str, call: Callable[[], Awaitable[T]]) -> T:
        route, failures = self._p.route, 0
        while True:
            started = asyncio.get_running_loop().time()
            try:
                answers = await call()
            except StoreError as error:
                failures += 1
                if PAUSED_BY_STORE not in self._p.paused:
                    self._p.log.warning(events.ROUTE_PAUSED, reason=PAUSED_BY_STORE, code=error.code, error=str(error))
                self._p.paused.add(PAUSED_BY_STORE)
                self._p.metrics.store_error(route.name)
                wait = backoff_ms(failures, base_ms=_BASE_MS, max_ms=_MAX_MS, jitter=0.5, chance=self._p.rng.random())
                await asyncio.sleep(wait / 1000)
            else:
                self._p.paused.discard(PAUSED_BY_STORE)
                self._p.metrics.store_latency(route.name, op, asyncio.get_running_loop().time() - started)
                return answers

    def _complete(self, answered: list[Delivery]) -> None:
        """Done, and whoever repeats one of them with it."""
        for repeat in self._p.retire_answered(answered):
            self._p.metrics.skipped(self._p.route.name, DUPLICATE)
            self._p.unpark(repeat)
            self._p.retire(repeat, settled=True)

    def _leave(self, outcomes: Sequence[Outcome]) -> None:
        """The parked set first, then the lane, so that a later message of the key sees where its predecessor went."""
        for outcome in outcomes:
            delivery = outcome.delivery
            settled = not (outcome.given_up or outcome.released)
            if settled:
                self._planner.free_key(outcome)
            self._p.retire(delivery, settled=settled)


def _completion(delivery: Delivery) -> Settlement:
    attempt = min(delivery.attempt + 1, MAX_ATTEMPT)
    detail = STALE_DETAIL if delivery.turned_away else b""
    return Settlement(
        delivery.claim_key, delivery.nonce, delivery.token, SettleKind.COMPLETE, attempt, detail, delivery.tries
    )
