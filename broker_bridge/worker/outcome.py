"""From the result of an attempt to what is written for it: output, retry copy, dead letter, claim settlement."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from broker_bridge import headers as h
from broker_bridge.core.circuit_breaker import BreakerState
from broker_bridge.core.claim import MAX_ATTEMPT, SettleKind, Settlement, pack_place
from broker_bridge.core.dead_letter import Failure, write_dead_letter
from broker_bridge.core.dead_letter_limit import DeadLetterLimit
from broker_bridge.core.disposition import Disposition, Ended, Verdict, decide
from broker_bridge.core.retry_record import write_retry
from broker_bridge.errors import (
    BridgeError,
    DeliveryError,
    RecordTooLargeError,
    RegistryError,
    TargetTimeoutError,
    TargetUnavailableError,
)
from broker_bridge.message import OutgoingRecord, Position
from broker_bridge.observability import events
from broker_bridge.observability.logging import key_hash
from broker_bridge.worker.delivery import Delivery
from broker_bridge.worker.pipeline import Parked, Pipeline, Result

PAUSED_BY_LIMIT = "dead_letter_limit"
_STOPPED_MS = 3_600_000
MAY_BE_AN_OUTAGE = frozenset({TargetTimeoutError.code, TargetUnavailableError.code})
"""Failures of which the target or the message may be the cause."""
_SETTLE_AS = {
    Verdict.COMPLETE: SettleKind.COMPLETE,
    Verdict.RETRY_LANE: SettleKind.RETRY,
    Verdict.DEAD_LETTER: SettleKind.DEAD,
}


@dataclass(slots=True, eq=False)
class Outcome:
    """What is to be done for one delivery. ``waits`` says that it stays in hand, at the head of its lane; ``marker``
    goes to a retry lane after the dead letter, to hold its key; ``position`` is where ``record`` was acknowledged;
    ``given_up`` that it never was."""

    delivery: Delivery
    verdict: Verdict
    attempt: int
    delay_ms: int = 0
    lane: int | None = None
    parked: bool = False
    released: bool = False
    record: OutgoingRecord | None = None
    marker: OutgoingRecord | None = None
    failure: Failure | None = None
    position: Position | None = None
    given_up: bool = False
    waits: bool = False

    @classmethod
    def of_answer(cls, delivery: Delivery) -> Outcome:
        """Of a message that the target took."""
        return cls(delivery, Verdict.COMPLETE, delivery.attempt + 1, record=delivery.output)

    def settlement(self) -> Settlement:
        """How the claim in hand ends."""
        delivery = self.delivery
        kind = SettleKind.RELEASE if self.parked or self.released else _SETTLE_AS[self.verdict]
        detail = b""
        if kind is SettleKind.DEAD and self.position is not None:
            detail = pack_place(self.position.partition, self.position.offset)
        attempt = min(self.attempt, MAX_ATTEMPT)
        return Settlement(delivery.claim_key, delivery.nonce, delivery.token, kind, attempt, detail, delivery.tries)


class OutcomePlanner:
    """Applies the route's policies to results; logs and counts what it decides."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._p = pipeline
        self._names = pipeline.route.lane_names
        self._dead_letter_topic = self._names.dead_letter
        self._lane_topics = self._names.retries(pipeline.retry.lanes_ms)
        letters = pipeline.route.dead_letter
        self._limit = DeadLetterLimit(count=letters.limit, window_ms=letters.limit_window_ms) if letters.limit else None

    def plan(self, results: Iterable[Result]) -> list[Outcome]:
        """Decide on results; aborted ones are left out."""
        outcomes: list[Outcome] = []
        for delivery, ended in results:
            if isinstance(ended, Parked):
                outcomes.append(self._park(delivery, ended.lane))
            elif isinstance(ended, BridgeError):
                outcomes.append(self._failed(delivery, ended))
        return outcomes

    def _park(self, delivery: Delivery, lane: int) -> Outcome:
        self._p.metrics.parked(self._p.route.name)
        self._p.log.debug(events.MESSAGE_PARKED, origin=str(delivery.origin), lane=self._lane_topics[lane])
        record = self._retry_copy(
            delivery,
            lane,
            attempt=delivery.attempt,
            first_failure_ms=delivery.first_failure_ms,
            held=delivery.is_marker,
        )
        return Outcome(delivery, Verdict.RETRY_LANE, delivery.attempt, lane=lane, parked=True, record=record)

    def _failed(self, delivery: Delivery, error: BridgeError) -> Outcome:
        now_ms = self._p.clock.now_ms()
        disposition = self._within_limit(self._decide(delivery, error), delivery, error)
        if disposition.attempt > delivery.attempt and delivery.first_failure_ms is None:
            delivery.first_failure_ms = now_ms
        outcome = Outcome(delivery, disposition.verdict, disposition.attempt, disposition.delay_ms, disposition.lane)
        outcome.waits = disposition.verdict in (Verdict.HOLD, Verdict.RETRY_IN_PLACE)
        delivery.holds = delivery.holds + 1 if disposition.verdict is Verdict.HOLD else 0
        delivery.error_code = error.code
        delivery.doubted_ms = self._p.ticks_ms if error.code in MAY_BE_AN_OUTAGE else -1
        delivery.attempt = disposition.attempt
        if disposition.verdict is Verdict.RETRY_LANE and disposition.lane is not None:
            outcome.record = self._retry_copy(
                delivery,
                disposition.lane,
                attempt=disposition.attempt,
                first_failure_ms=delivery.first_failure_ms or now_ms,
            )
        elif disposition.verdict is Verdict.DEAD_LETTER:
            self._dead_letter(outcome, error, now_ms)
        self._tell(outcome, error)
        return outcome

    def _decide(self, delivery: Delivery, error: BridgeError) -> Disposition:
        return decide(
            ended_as(error),
            policy=self._p.retry,
            attempt=delivery.attempt,
            holds=delivery.holds,
            breaker_closed=self._p.breaker.state(self._p.ticks_ms) is BreakerState.CLOSED,
            chance=self._p.rng.random(),
            others_answered=delivery.doubted_ms >= 0 and self._p.breaker.answered_since(delivery.doubted_ms),
        )

    def _within_limit(self, disposition: Disposition, delivery: Delivery, error: BridgeError) -> Disposition:
        """Too many dead letters stop the route: what would have died stays in hand, and in Kafka."""
        if (
            disposition.verdict is not Verdict.DEAD_LETTER
            or self._limit is None
            or self._limit.allows(self._p.ticks_ms)
        ):
            return disposition
        if not self._p.stopped:
            self._p.stopped = True
            self._p.paused.add(PAUSED_BY_LIMIT)
            self._p.log.error(
                events.ROUTE_PAUSED,
                reason=PAUSED_BY_LIMIT,
                code=error.code,
                count=self._p.route.dead_letter.limit,
                remedy="look at: broker-bridge dlq groups; mend the cause, then restart the worker",
            )
        return Disposition(Verdict.HOLD, delivery.attempt, delay_ms=_STOPPED_MS)

    def _retry_copy(
        self, delivery: Delivery, lane: int, *, attempt: int, first_failure_ms: int | None, held: bool = False
    ) -> OutgoingRecord:
        """The copy, whose message is parked from here on: the copy may be done with before the rest of its batch is
        acknowledged, and who is parked only then would hold its key for ever."""
        now_ms = self._p.clock.now_ms()
        due_ms = now_ms + self._p.retry.lanes_ms[lane]
        if delivery.record.key is not None and self._p.route.order == "key":
            delivery.part.parked.park(delivery.record.key, delivery.origin.offset, lane, due_ms=due_ms)
        return write_retry(
            delivery.record,
            topic=self._lane_topics[lane],
            origin=delivery.origin,
            origin_timestamp_ms=origin_timestamp_ms(delivery),
            group=self._p.route.group,
            attempt=attempt,
            due_ms=due_ms,
            now_ms=now_ms,
            first_failure_ms=first_failure_ms,
            error_code=delivery.error_code,
            held=held,
        )

    def _dead_letter(self, outcome: Outcome, error: BridgeError, now_ms: int) -> None:
        delivery = outcome.delivery
        outcome.failure = Failure(
            code=error.code,
            error_class=type(error).__name__,
            message=str(error),
            target_code=getattr(error, "target_code", ""),
            attempts=outcome.attempt,
            first_ms=delivery.first_failure_ms or now_ms,
            last_ms=now_ms,
        )
        outcome.record = self._letter(outcome, include_message=self._p.route.dead_letter.message)
        if self._holds_key(delivery):
            outcome.lane = len(self._lane_topics) - 1
            first_ms = delivery.first_failure_ms or now_ms
            outcome.marker = self._retry_copy(delivery, outcome.lane, attempt=0, first_failure_ms=first_ms, held=True)
            self._p.log.warning(events.KEY_HELD, origin=str(delivery.origin), key_hash=key_hash(delivery.record.key))

    def _holds_key(self, delivery: Delivery) -> bool:
        """Whether this death is to hold the key, and nothing holds it already (a replay that died again)."""
        key = delivery.record.key
        if not self._holds() or key is None or delivery.token == 0:
            return False
        return not (delivery.from_redrive and delivery.part.parked.contains(key, delivery.origin.offset))

    def _letter(self, outcome: Outcome, *, include_message: bool) -> OutgoingRecord:
        assert outcome.failure is not None
        return write_dead_letter(
            outcome.delivery.record,
            topic=self._dead_letter_topic,
            origin=outcome.delivery.origin,
            timestamp_ms=origin_timestamp_ms(outcome.delivery),
            group=self._p.route.group,
            service=self._p.service,
            release=self._p.release,
            failure=outcome.failure,
            include_message=include_message,
        )

    def replace_too_large(self, outcome: Outcome, error: RecordTooLargeError) -> bool:
        """Another record in place of one that the broker finds too large; false where there is none left to try.

        An output or a retry copy gives way to a dead letter; a dead letter loses its message.
        """
        if outcome.verdict is Verdict.DEAD_LETTER:
            had_message = outcome.record is not None and h.text_of(outcome.record.headers, h.ERROR_MESSAGE) is not None
            if had_message:
                outcome.record = self._letter(outcome, include_message=False)
            return had_message
        outcome.verdict, outcome.parked, outcome.lane = Verdict.DEAD_LETTER, False, None
        self._dead_letter(outcome, error, self._p.clock.now_ms())
        self._tell(outcome, error)
        return True

    def free_key(self, outcome: Outcome) -> None:
        """Let later messages of the key go, unless a copy in a lane still holds it back."""
        has_copy = outcome.lane is not None
        is_held = outcome.verdict is Verdict.DEAD_LETTER and outcome.delivery.from_redrive and self._holds()
        if not (has_copy or is_held):
            self._p.unpark(outcome.delivery)

    def _holds(self) -> bool:
        return self._p.route.dead_letter.on_dead == "hold"

    def _tell(self, outcome: Outcome, error: BridgeError) -> None:
        delivery, metrics = outcome.delivery, self._p.metrics
        metrics.failed(self._p.route.name, outcome.verdict.value, error.code)
        if outcome.verdict is Verdict.DEAD_LETTER:
            metrics.dead_lettered(self._p.route.name, error.code)
        log = self._p.log.warning if outcome.verdict is Verdict.DEAD_LETTER else self._p.log.info
        if isinstance(error, RegistryError):  # told once, by the source of contracts, and not for each message
            log = self._p.log.debug
        log(
            events.MESSAGE_DEAD_LETTERED if outcome.verdict is Verdict.DEAD_LETTER else events.ATTEMPT_FAILED,
            state=outcome.verdict.value,
            code=error.code,
            target_code=getattr(error, "target_code", ""),
            topic=delivery.origin.topic,
            partition=delivery.origin.partition,
            offset=delivery.origin.offset,
            key_hash=key_hash(delivery.record.key),
            attempt=outcome.attempt,
            delay_ms=outcome.delay_ms,
            correlation_id=h.text_of(delivery.record.headers, h.CORRELATION_ID),
            trace_id=trace_id(h.text_of(delivery.record.headers, h.TRACEPARENT)),
        )


def ended_as(error: BridgeError) -> Ended:
    """An error as the decision sees it."""
    if isinstance(error, RegistryError):  # of whatever kind: it says nothing of the message
        return Ended(failed=True, retriable=True, outage=True, spends_attempt=False)
    if not isinstance(error, DeliveryError):
        return Ended(failed=True, retriable=error.retriable)
    return Ended(
        failed=True,
        retriable=error.retriable,
        outage=error.outage,
        spends_attempt=error.spends_attempt,
        retry_after_ms=error.retry_after_ms,
    )


def origin_timestamp_ms(delivery: Delivery) -> int:
    """When the record was first written to the source topic."""
    if delivery.from_source:
        return delivery.record.timestamp_ms
    return h.int_of(delivery.record.headers, h.ORIGIN_TIMESTAMP_MS, delivery.record.timestamp_ms)


def trace_id(traceparent: str | None) -> str | None:
    """The trace id of a W3C traceparent."""
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) == 4 else None
