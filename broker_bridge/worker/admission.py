"""From records to deliveries: identify, hold back what is not due, park what must wait behind its key."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from broker_bridge import headers as h
from broker_bridge.core.claim import MAX_ATTEMPT
from broker_bridge.core.disposition import SOURCE
from broker_bridge.core.identity import claim_key_in, edited_from, payload_fingerprint, replay_tag
from broker_bridge.message import Record, TopicPartition
from broker_bridge.worker.delivery import Delivery
from broker_bridge.worker.outcome import MAY_BE_AN_OUTAGE
from broker_bridge.worker.partitions import PartitionState
from broker_bridge.worker.pipeline import Parked, Pipeline

_BUDGET_LOOK_MS = 100


class Admission:
    """Decides what becomes of records as they are read."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._p = pipeline

    def admit(self, records: Sequence[Record]) -> list[Delivery]:
        """Take records in; the answer is what is to be claimed now, in the order read."""
        now_ms = self._p.ticks_ms
        to_claim: list[Delivery] = []
        part: PartitionState | None = None
        for record in records:
            if part is None or part.tp != (record.topic, record.partition):  # they come partition by partition
                part = self._p.assignment.get(TopicPartition(record.topic, record.partition))
            if part is None or part.gone:
                continue
            if part.watermark.has_read(record.offset):
                continue  # the consumer was set back: it is in hand or settled
            delivery = self._delivery(record, part, now_ms)
            part.entered(record.offset)
            must_wait = part.waiting or not part.ready or delivery.due_ms > now_ms
            if must_wait or (part.lane != SOURCE and self._must_wait_outside(delivery, now_ms, admitted=len(to_claim))):
                part.waiting.append(delivery)
            elif not self._set_aside(delivery):
                to_claim.append(delivery)
        return to_claim

    def due(self, now_ms: int) -> list[Delivery]:
        """What was held back and may go on, as far as there is room: the parked set is known, and a retry-lane record
        has fallen due by the event loop's clock."""
        found: list[Delivery] = []
        for part in self._p.assignment.states():
            waiting = part.waiting
            while waiting and part.ready and not part.gone and waiting[0].due_ms <= now_ms and self._p.room:
                if self._must_wait_outside(waiting[0], now_ms, admitted=len(found)):
                    break
                delivery = waiting.popleft()
                if not self._set_aside(delivery):
                    found.append(delivery)
        return found

    def _must_wait_outside(self, delivery: Delivery, now_ms: int, *, admitted: int) -> bool:
        """A retry beyond the target's budget stays out of hand, so that retries which may not start do not take the
        room of first attempts."""
        if not delivery.is_retry or delivery.is_marker or self._p.budget.left(self._p.ticks_ms) > admitted:
            return False
        self._p.metrics.budget_denied(self._p.route.name)
        delivery.due_ms = now_ms + _BUDGET_LOOK_MS
        return True

    def next_due_ms(self) -> int | None:
        """When the next record held back may go on; None without any that is known."""
        heads = [part.waiting[0] for part in self._p.assignment.states() if part.waiting and part.ready]
        return min(map(attrgetter("due_ms"), heads), default=None)

    def _delivery(self, record: Record, part: PartitionState, now_ms: int) -> Delivery:
        named = dict(record.headers)
        origin = part.origin_of(record)
        delivery = Delivery(
            record,
            named,
            part,
            origin,
            claim_key_in(named, origin, namespace=self._p.route.topic),
            self._p.rng.randbytes(8),
            self._order_key(record),
            len(record.value or b"") + len(record.key or b"") + 256,
            payload_fingerprint(record.value),
        )
        if part.lane != SOURCE:
            self._read_lane_headers(delivery, now_ms)
        return delivery

    def _read_lane_headers(self, delivery: Delivery, now_ms: int) -> None:
        """A worker whose clock is ahead, or garbage, may put a due time far off: no message waits longer than its lane
        is long. Nor where this worker's own clock is set back: from here on the event loop's counts."""
        found = delivery.named
        longest_ms = self._p.retry.lanes_ms[delivery.lane] if delivery.lane >= 0 else 0
        delivery.attempt = min(h.int_in(found, h.ATTEMPT, 0), MAX_ATTEMPT)
        delivery.due_ms = now_ms + min(h.int_in(found, h.DUE_MS, 0) - self._p.clock.now_ms(), longest_ms)
        delivery.first_failure_ms = h.int_in(found, h.FIRST_FAILURE_MS, 0) or None
        delivery.is_marker = delivery.lane >= 0 and h.text_in(found, h.HELD) == "1"
        delivery.error_code = h.text_in(found, h.ERROR_CODE) or ""
        if delivery.error_code in MAY_BE_AN_OUTAGE:
            delivery.doubted_ms = self._p.ticks_ms
        if h.EDITED_FROM in found:
            delivery.fingerprint = edited_from(found) or delivery.fingerprint
        delivery.replay_id = h.text_in(found, h.REPLAY_ID)
        delivery.replay = replay_tag(delivery.replay_id)
        if delivery.lane >= 0 and delivery.record.key is not None and self._p.route.order == "key":
            delivery.part.parked.park(
                delivery.record.key, delivery.origin.offset, delivery.lane, due_ms=h.int_in(found, h.DUE_MS, 0)
            )

    def _order_key(self, record: Record) -> object:
        if self._p.route.order == "key" and record.key is not None:
            return record.partition, record.key
        if self._p.route.order == "partition":
            return record.partition
        return record.topic, record.partition, record.offset

    def _set_aside(self, delivery: Delivery) -> bool:
        """In hand from here on. Settle or park a source record without a claim where the parked set already says what
        becomes of it."""
        self._p.enter(delivery)
        key, parked = delivery.record.key, delivery.part.parked
        if not delivery.from_source or key is None or not len(parked) or self._p.route.order != "key":
            return False
        if parked.contains(key, delivery.origin.offset):
            self._p.metrics.skipped(self._p.route.name, "already_parked")
            self._p.retire(delivery, settled=True)
            return True
        lane = parked.lane_ahead(key, delivery.origin.offset)
        if lane is None or delivery.order_key in self._p.lanes:
            return False
        # Parked from here on, before its copy is written: the one ahead may be done meanwhile, and a later message of
        # the key must not pass in between.
        parked.park(key, delivery.origin.offset, lane, due_ms=0)
        self._p.report(delivery, Parked(lane))
        return True
