"""What becomes of attempts: outputs, retry copies and dead letters are acknowledged by Kafka first, then the claims are
settled, then the watermark moves. One send and one settle a batch.

A crash between any two of these steps repeats the later ones and never skips one::

    effect ── send output/retry/dead letter ── ack ── settle claim ── watermark ── commit
           │                                       │               │
           W1: effect may repeat                   copy may repeat  record read again, skipped as done
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from broker_bridge.core.claim import SettleStatus
from broker_bridge.core.disposition import Verdict
from broker_bridge.core.retry import backoff_ms
from broker_bridge.errors import BridgeError, RecordTooLargeError, StoreError, TransportError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.message import Position
from broker_bridge.observability import events
from broker_bridge.transport.base import BatchProducer
from broker_bridge.worker.claim_stage import PAUSED_BY_STORE
from broker_bridge.worker.outcome import Outcome, OutcomePlanner
from broker_bridge.worker.pipeline import Aborted, Pipeline, Result

T = TypeVar("T")

_BATCH = 2_000
_BASE_MS = 50
_MAX_MS = 2_000
PAUSED_BY_KAFKA = "kafka_down"


class Settler:
    """The last stage of a route."""

    def __init__(
        self, pipeline: Pipeline, planner: OutcomePlanner, producer: BatchProducer, store: IdempotencyStore
    ) -> None:
        self._p = pipeline
        self._planner = planner
        self._producer = producer
        self._store = store

    async def run(self) -> None:
        """Settle results until cancelled."""
        while True:
            if not self._p.results:
                await self._p.settling.wait()
                continue
            batch = [self._p.results.popleft() for _ in range(min(_BATCH, len(self._p.results)))]
            await self._settle(batch)

    async def _settle(self, batch: Sequence[Result]) -> None:
        for result in batch:
            if isinstance(result.ended, Aborted):
                self._p.retire(result.delivery, settled=False)
        leaving = self._planner.plan(batch)
        if waiting := [outcome for outcome in leaving if outcome.waits]:
            await self._write_attempts_down(waiting)
            self._wait(waiting)
            leaving = [outcome for outcome in leaving if not outcome.waits]
        await self._publish([outcome for outcome in leaving if outcome.record is not None])
        await self._hold_keys(leaving)
        sent = [outcome for outcome in leaving if not outcome.given_up]
        await self._settle_claims(sent)
        self._leave(leaving)

    def _wait(self, waiting: Sequence[Outcome]) -> None:
        """They stay at the head of their lane, unless there is no time left for that."""
        for outcome in waiting:
            if self._p.closing or outcome.delivery.part.gone:
                outcome.released, outcome.waits = True, False
            elif outcome.delivery.queued:
                self._p.postpone(outcome.delivery, delay_ms=outcome.delay_ms)
            else:  # the route was stopped before the message had its place
                self._p.queue(outcome.delivery)

    async def _hold_keys(self, outcomes: Sequence[Outcome]) -> None:
        """After the dead letter, what holds its key. Without it the message is not settled, and will be
        dead-lettered again."""
        holding = [
            (outcome, outcome.marker) for outcome in outcomes if outcome.marker is not None and not outcome.given_up
        ]
        if not holding:
            return
        marks = [Outcome(o.delivery, Verdict.RETRY_LANE, o.attempt, lane=o.lane, record=m) for o, m in holding]
        await self._publish(marks)
        for (outcome, _), mark in zip(holding, marks, strict=True):
            outcome.given_up = mark.given_up

    async def _write_attempts_down(self, waiting: Sequence[Outcome]) -> None:
        """A try in place is written into the claim, so that a crash does not forget it (I15). Best effort: without the
        store the attempt only counts in memory."""
        held = [o.delivery.held() for o in waiting if o.delivery.token]
        if not held:
            return
        try:
            await self._store.renew(self._p.route.group, held, lease_ms=self._p.route.claims.lease_ms)
        except StoreError:
            self._p.metrics.store_error(self._p.route.name)

    async def _publish(self, outcomes: list[Outcome]) -> None:
        """Send until every record is acknowledged. Without a dead-letter topic or a lane the partition waits:
        nothing is dropped."""
        failures = 0
        while outcomes:
            started = asyncio.get_running_loop().time()
            try:
                answers = await self._producer.send_batch([o.record for o in outcomes if o.record is not None])
            except TransportError as error:
                answers = [error] * len(outcomes)
            self._p.metrics.kafka_latency(self._p.route.name, "send", asyncio.get_running_loop().time() - started)
            outcomes = self._unanswered(outcomes, answers)
            if not outcomes:
                break
            failures += 1
            wait = backoff_ms(failures, base_ms=_BASE_MS, max_ms=_MAX_MS, jitter=0.5, chance=self._p.rng.random())
            await asyncio.sleep(wait / 1000)
        self._p.paused.discard(PAUSED_BY_KAFKA)

    def _unanswered(self, outcomes: Sequence[Outcome], answers: Sequence[Position | TransportError]) -> list[Outcome]:
        """Those to be sent again: the same record, or what replaces one that is too large."""
        again = []
        for outcome, answer in zip(outcomes, answers, strict=True):
            if isinstance(answer, Position):
                outcome.position = answer
            elif outcome.delivery.part.gone and self._p.closing:
                outcome.given_up = True
            elif isinstance(answer, RecordTooLargeError) and self._planner.replace_too_large(outcome, answer):
                again.append(outcome)
            else:
                self._blocked(outcome, answer)
                again.append(outcome)
        return again

    def _blocked(self, outcome: Outcome, error: BridgeError) -> None:
        if PAUSED_BY_KAFKA not in self._p.paused and outcome.record is not None:
            self._p.log.error(
                events.ROUTE_PAUSED,
                reason=PAUSED_BY_KAFKA,
                code=error.code,
                error=str(error),
                topic=outcome.record.topic,
            )
        self._p.paused.add(PAUSED_BY_KAFKA)
        self._p.metrics.send_error(self._p.route.name)

    async def _settle_claims(self, outcomes: Sequence[Outcome]) -> None:
        await self._write_released_down(outcomes)
        holding = [outcome for outcome in outcomes if outcome.delivery.token]
        if not holding:
            return
        settlements = [outcome.settlement() for outcome in holding]
        route = self._p.route
        statuses = await self._until_answered(
            "settle", lambda: self._store.settle(route.group, settlements, ttl_ms=route.claims.ttl_ms)
        )
        for outcome, status in zip(holding, statuses, strict=True):
            if status is SettleStatus.STALE:
                self._p.metrics.stale(self._p.route.name)
                self._p.log.warning(
                    events.CLAIM_STALE,
                    origin=str(outcome.delivery.origin),
                    fencing_token=outcome.delivery.token,
                    state=outcome.verdict.value,
                )

    async def _write_released_down(self, outcomes: Sequence[Outcome]) -> None:
        """Letting go of a claim keeps the attempts it knows of: those that an outage kept from it must not be lost."""
        held = [outcome.delivery.held() for outcome in outcomes if outcome.released and outcome.delivery.token]
        if held:
            route = self._p.route
            await self._until_answered(
                "renew", lambda: self._store.renew(route.group, held, lease_ms=route.claims.lease_ms)
            )

    async def _until_answered(self, op: str, call: Callable[[], Awaitable[list[T]]]) -> list[T]:
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

    def _leave(self, outcomes: Sequence[Outcome]) -> None:
        """The parked set first, then the lane, so that a later message of the key sees where its predecessor went."""
        for outcome in outcomes:
            delivery = outcome.delivery
            settled = not (outcome.given_up or outcome.released)
            if settled:
                self._planner.free_key(outcome)
            self._p.retire(delivery, settled=settled)
