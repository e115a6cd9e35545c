"""What becomes of attempts, first half: outputs, retry copies and dead letters are sent, and acknowledged by Kafka.

One send a batch. What the target took needs no plan and has no ``Outcome``: only its output, if there is one, is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from broker_bridge.core.disposition import Verdict
from broker_bridge.core.retry import backoff_ms
from broker_bridge.errors import BridgeError, RecordTooLargeError, StoreError, TransportError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.message import OutgoingRecord, Position
from broker_bridge.observability import events
from broker_bridge.transport.base import BatchProducer
from broker_bridge.worker.delivery import Delivery
from broker_bridge.worker.outcome import Outcome, OutcomePlanner
from broker_bridge.worker.pipeline import Aborted, Pipeline, Result
from broker_bridge.worker.settler import Settler

_BATCH = 2_000
_BASE_MS = 50
_MAX_MS = 2_000
PAUSED_BY_KAFKA = "kafka_down"


class Publisher:
    """Takes what leaves the slots, and hands to the settler what is written down."""

    def __init__(
        self,
        pipeline: Pipeline,
        planner: OutcomePlanner,
        producer: BatchProducer,
        store: IdempotencyStore,
        settler: Settler,
    ) -> None:
        self._p = pipeline
        self._planner = planner
        self._producer = producer
        self._store = store
        self._settler = settler

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            answered, results = self._p.take_ended(_BATCH)
            if answered or results:
                await self._handle(answered, results)
            else:
                await self._p.ended.wait()

    async def _handle(self, answered: list[Delivery], results: list[Result]) -> None:
        if answered:
            self._count(answered)
        outcomes = await self._leaving(results) if results else []
        answered, refused = await self._publish(answered, outcomes)
        outcomes += refused
        await self._hold_keys(outcomes)
        await self._settler.submit(answered, outcomes)

    def _count(self, answered: list[Delivery]) -> None:
        now_ms = self._p.clock.now_ms()
        self._p.metrics.completed(
            self._p.route.name,
            handling_ms=[now_ms - delivery.started_ms for delivery in answered],
            age_ms=[now_ms - delivery.record.timestamp_ms for delivery in answered],
        )

    async def _leaving(self, results: Sequence[Result]) -> list[Outcome]:
        """What is to be done for those that do not stay in hand."""
        for result in results:
            if isinstance(result.ended, Aborted):
                self._p.retire(result.delivery, settled=False)
        outcomes = self._planner.plan(results)
        if waiting := [outcome for outcome in outcomes if outcome.waits]:
            await self._write_attempts_down(waiting)
            self._wait(waiting)
        return [outcome for outcome in outcomes if not outcome.waits]

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
        await self._send_all(marks)
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

    async def _publish(self, answered: list[Delivery], outcomes: list[Outcome]) -> tuple[list[Delivery], list[Outcome]]:
        """Send until every record is acknowledged. Without a dead-letter topic or a lane the partition waits: nothing
        is dropped. Returns those of ``answered`` that are done, and outcomes for those whose output was not taken."""
        outputs = [delivery.output for delivery in answered if delivery.output is not None]
        leaving = [outcome for outcome in outcomes if outcome.record is not None]
        if not outputs:
            await self._send_all(leaving)
            return answered, []
        answers = await self._send(outputs + [outcome.record for outcome in leaving if outcome.record is not None])
        if all(type(answer) is Position for answer in answers[: len(outputs)]):  # nearly always
            refused, again = [], self._unanswered(leaving, answers[len(outputs) :])
        else:
            tried = [Outcome.of_answer(delivery) for delivery in answered if delivery.output is not None]
            again = self._unanswered(tried + leaving, answers)
            refused = [outcome for outcome in tried if outcome.position is None]
            apart = {outcome.delivery for outcome in refused}
            answered = [delivery for delivery in answered if delivery not in apart]
        if again:
            await self._send_all(again, failures=1)
        else:
            self._p.paused.discard(PAUSED_BY_KAFKA)
        return answered, refused

    async def _send_all(self, outcomes: list[Outcome], *, failures: int = 0) -> None:
        while outcomes:
            if failures:
                chance = self._p.rng.random()
                wait = backoff_ms(failures, base_ms=_BASE_MS, max_ms=_MAX_MS, jitter=0.5, chance=chance)
                await asyncio.sleep(wait / 1000)
            answers = await self._send([outcome.record for outcome in outcomes if outcome.record is not None])
            outcomes = self._unanswered(outcomes, answers)
            failures += 1
        self._p.paused.discard(PAUSED_BY_KAFKA)

    async def _send(self, records: list[OutgoingRecord]) -> Sequence[Position | TransportError]:
        started = self._p.ticks_s
        answers: Sequence[Position | TransportError]
        try:
            answers = await self._producer.send_batch(records)
        except TransportError as error:
            answers = [error] * len(records)
        self._p.metrics.kafka_latency(self._p.route.name, "send", self._p.ticks_s - started)
        return answers

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
