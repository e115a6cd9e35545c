"""Claiming: one round trip a batch, in the order read; what is not ours to do is settled here."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from broker_bridge import headers as h
from broker_bridge.core.claim import ClaimAnswer, ClaimStatus
from broker_bridge.core.retry import backoff_ms
from broker_bridge.errors import ClaimUnreadableError, CrashSuspectError, KeyConflictError, StoreError, TransportError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.observability import events, names
from broker_bridge.worker.conflict import PayloadComparison
from broker_bridge.worker.delivery import Delivery
from broker_bridge.worker.give_back import give_back
from broker_bridge.worker.held_keys import HeldKeys
from broker_bridge.worker.pipeline import Pipeline
from broker_bridge.worker.suspects import is_deadly

QUEUED_BATCHES = 2
"""Batches that may wait for their claim; more of them would only lengthen leases."""
_BUSY_BASE_MS = 50
_BUSY_MAX_MS = 1_000
_DOWN_BASE_MS = 100
_DOWN_MAX_MS = 2_000
PAUSED_BY_STORE = "redis_down"
DUPLICATE = "duplicate"


class ClaimStage:
    """Turns deliveries into claimed deliveries in the key lanes."""

    def __init__(self, pipeline: Pipeline, store: IdempotencyStore, comparison: PayloadComparison) -> None:
        self._p = pipeline
        self._store = store
        self._comparison = comparison
        self._held_keys = HeldKeys(pipeline, store)
        self._losses = 0
        self._batches: deque[list[Delivery]] = deque()

    @property
    def full(self) -> bool:
        """Whether reading should wait."""
        return len(self._batches) >= QUEUED_BATCHES

    def submit(self, batch: list[Delivery]) -> None:
        """Claim these next."""
        self._batches.append(batch)
        self._p.asked.wake()

    async def run(self) -> None:
        """Claim batches until cancelled; also asks again for heads that were busy."""
        while True:
            if self._p.reclaims:
                heads, self._p.reclaims = self._p.reclaims, []
                await self._claim(heads)
            elif self._batches:
                batch = self._batches.popleft()
                self._p.room_made.wake()
                await self._claim(batch)
            else:
                await self._p.asked.wait()

    async def _claim(self, batch: list[Delivery]) -> None:
        markers = [delivery for delivery in batch if delivery.is_marker]
        if markers:
            await self._held_keys.look(markers)
            batch = [delivery for delivery in batch if not delivery.is_marker]
        answers, asked = await self._ask(batch)
        ready = granted = 0
        granted_status = ClaimStatus.GRANTED
        gone: list[Delivery] = []
        for delivery, answer in zip(asked, answers, strict=True):
            if delivery.part.gone:
                delivery.token = answer.token
                gone.append(delivery)
            elif answer.status is granted_status:
                granted += 1
                ready += self._granted(delivery, answer)
            else:
                ready += await self._refused(delivery, answer)
        if granted:
            self._p.metrics.claim(self._p.route.name, "granted", granted)
        if ready:
            self._p.work.wake(ready)
        await give_back(self._p, self._store, gone)
        for delivery in gone:
            self._p.retire(delivery, settled=False)

    async def _ask(self, batch: list[Delivery]) -> tuple[list[ClaimAnswer], list[Delivery]]:
        """Ask until the store answers: Kafka keeps the work meanwhile (policy ``block``).

        Whatever was asked before is asked again with the same nonces, so a claim whose answer was lost is ours.
        """
        failures = 0
        while True:
            for delivery in batch:
                if delivery.part.gone:
                    self._p.retire(delivery, settled=False)
            batch = [delivery for delivery in batch if not delivery.part.gone]
            try:
                answers = await self._call(batch)
            except StoreError as error:
                if isinstance(error, ClaimUnreadableError) and (found := self._set_apart(batch, error)):
                    batch = [delivery for delivery in batch if delivery not in found]
                    continue
                failures += 1
                self._pause(error, failures)
                wait = backoff_ms(
                    failures, base_ms=_DOWN_BASE_MS, max_ms=_DOWN_MAX_MS, jitter=0.5, chance=self._p.rng.random()
                )
                await asyncio.sleep(wait / 1000)
            else:
                self._p.paused.discard(PAUSED_BY_STORE)  # also for a batch that is gone: the next one will find out
                return answers, batch

    def _set_apart(self, batch: Sequence[Delivery], error: ClaimUnreadableError) -> list[Delivery]:
        """Those whose claim cannot be read, on their way to the dead letters: nobody knows whether they may run, so
        they do not, and the claim is left as it is. All others are asked for again."""
        found = [delivery for delivery in batch if delivery.claim_key == error.claim_key]
        for delivery in found:
            self._p.report(delivery, error)
        return found

    async def _call(self, batch: Sequence[Delivery]) -> list[ClaimAnswer]:
        if not batch:
            return []
        route = self._p.route
        started = asyncio.get_running_loop().time()
        for delivery in batch:
            delivery.lease_end_s = started + route.claims.lease_ms / 1000
        answers = await self._store.claim(
            route.group, [delivery.request() for delivery in batch], lease_ms=route.claims.lease_ms
        )
        self._p.metrics.store_latency(route.name, "claim", asyncio.get_running_loop().time() - started)
        self._look_for_losses()
        return answers

    def _look_for_losses(self) -> None:
        """Redis has lost claims (W3): whatever was done before may be granted again, so somebody has to know."""
        losses = self._store.losses()
        if losses > self._losses:
            self._p.metrics.window(self._p.route.name, names.W3_CLAIMS_LOST, losses - self._losses)
            self._p.log.error(
                events.CLAIMS_LOST,
                count=losses,
                remedy="effects of what is read again may repeat (W3): broker-bridge explain redis_unavailable",
            )
        self._losses = losses

    def _pause(self, error: StoreError, failures: int) -> None:
        if PAUSED_BY_STORE not in self._p.paused:
            self._p.log.warning(events.ROUTE_PAUSED, reason=PAUSED_BY_STORE, code=error.code, error=str(error))
        self._p.paused.add(PAUSED_BY_STORE)
        self._p.metrics.store_error(self._p.route.name)

    async def _refused(self, delivery: Delivery, answer: ClaimAnswer) -> int:
        """What the answer means for the delivery; 1 where it has a place in the lanes."""
        self._p.metrics.claim(self._p.route.name, answer.status.name.lower())
        match answer.status:
            case ClaimStatus.BUSY:
                return await self._busy(delivery, answer)
            case ClaimStatus.CONFLICT:
                return await self._conflict(delivery, answer)
            case ClaimStatus.DONE:
                return self._drop(delivery, DUPLICATE, unpark=True)
            case ClaimStatus.DEAD:
                return self._dead(delivery, answer)
            case ClaimStatus.SUPERSEDED:
                return self._superseded(delivery, answer)
            case ClaimStatus.GRANTED:
                raise AssertionError("a grant is no refusal")

    def _granted(self, delivery: Delivery, answer: ClaimAnswer) -> int:
        _, token, attempt, crashes, _, _, _, _, tries = answer
        delivery.token, delivery.crashes, delivery.busy_count = token, crashes, 0
        if attempt > delivery.attempt:
            delivery.attempt = attempt
        if tries > delivery.tries:
            delivery.tries = tries
        before = self._p.held.setdefault(delivery.claim_key, delivery)
        if before is not delivery:  # which is told, for nobody renews it any more
            self._p.held[delivery.claim_key] = delivery
            self._p.lost(before, "taken")
        if crashes and self._is_deadly(delivery, answer):
            return 0
        return self._into_lanes(delivery, delay_ms=0)

    def _is_deadly(self, delivery: Delivery, answer: ClaimAnswer) -> bool:
        """Tell of a claim that was taken over; whether its message is set aside for that."""
        self._p.metrics.crash_takeover(self._p.route.name)
        self._p.log.warning(
            events.CLAIM_TAKEN_OVER, origin=str(delivery.origin), crashes=answer.crashes, fencing_token=answer.token
        )
        if not is_deadly(answer, self._p.route.claims.crash_limit):
            return False
        self._p.report(
            delivery,
            CrashSuspectError(
                f"{answer.crashes} workers died with this message in hand, and it was started each time",
                remedy="try it alone with: broker-bridge dlq show, then replay it once the handler is fixed",
            ),
        )
        return True

    def _into_lanes(self, delivery: Delivery, *, delay_ms: int) -> int:
        if delivery.queued:
            self._p.postpone(delivery, delay_ms=delay_ms)
        else:
            self._p.queue(delivery)
        return 1

    async def _busy(self, delivery: Delivery, answer: ClaimAnswer) -> int:
        """Another delivery of the key holds the claim. It keeps its place in its lane; no attempt is spent.

        Where that other one is ours and waits its own turn, perhaps behind this very one, both would wait for ever::

            dead worker holds m1     m1: busy, asks again each second      lane: m1
            its lease runs out       m1' (the same event again): granted   lane: m1, m1'
                                     m1: busy, for m1' is renewed …
        """
        holder = self._p.holder(delivery) if delivery.queued and delivery.busy_count else None
        if holder is not None and self._waits_its_turn(holder):
            self._p.let_go(holder)
            holder.lost = True  # so that it asks again, also where its turn comes while this is under way
            await give_back(self._p, self._store, [holder])
        return self._ask_again(delivery, within_ms=answer.retry_after_ms)

    def _waits_its_turn(self, holder: Delivery) -> bool:
        """Whether it has others of its key before it."""
        in_lane = holder.queued and not self._p.lanes.is_head(holder.order_key, holder)
        return in_lane or holder in self._p.behind

    def _ask_again(self, delivery: Delivery, *, within_ms: int) -> int:
        delivery.busy_count += 1
        wait_ms = min(within_ms, _BUSY_MAX_MS, _BUSY_BASE_MS << min(delivery.busy_count - 1, 8))
        delivery.ask_at_ms = self._p.ticks_ms + max(1, wait_ms)
        return self._into_lanes(delivery, delay_ms=max(1, wait_ms))

    def _dead(self, delivery: Delivery, answer: ClaimAnswer) -> int:
        """There is a dead letter of it. Where that holds the key, later ones wait for its marker, also if that was
        written by a worker that had lost the partition, after the parked set was rebuilt::

            old owner                       new owner
            m1 runs, partition is taken     rebuilds: nothing of the key in the lanes
            m1 dies, marker to lane         m1: busy … dead; m2 (same key) must not run before the marker frees it
        """
        key = delivery.record.key
        ours = answer.origin == delivery.packed_origin
        if ours and key is not None and self._p.route.order == "key" and self._p.route.dead_letter.on_dead == "hold":
            last_lane = len(self._p.retry.lanes_ms) - 1
            delivery.part.parked.park(key, delivery.origin.offset, last_lane, due_ms=0)
            return self._drop(delivery, "already_dead", unpark=False)
        return self._drop(delivery, "already_dead", unpark=self._is_live(delivery))

    def _superseded(self, delivery: Delivery, answer: ClaimAnswer) -> int:
        """A newer copy is in a lane. Where it is a copy of this very record, later ones of the key wait behind it, also
        if it was written by a worker that had lost the partition, after the parked set was rebuilt::

            old owner                       new owner
            m1 runs, partition is taken     rebuilds: nothing of the key in the lanes
            m1 fails, copy to lane          m1: busy … superseded; m2 (same key) must not run before the copy

        Where it is a copy of another record with the same idempotency key, this one is out of the lanes for good.
        """
        ours = answer.origin == delivery.packed_origin
        key = delivery.record.key
        if ours and key is not None and self._p.route.order == "key":
            delivery.part.parked.park(key, delivery.origin.offset, max(delivery.lane, 0), due_ms=0)
        return self._drop(delivery, "superseded", unpark=not ours)

    async def _conflict(self, delivery: Delivery, answer: ClaimAnswer) -> int:
        try:
            same = await self._comparison.is_same_payload(delivery, answer.origin)
        except TransportError:
            return self._ask_again(delivery, within_ms=_BUSY_MAX_MS)
        if same:
            return self._drop(delivery, DUPLICATE, unpark=True)
        self._p.report(
            delivery,
            KeyConflictError(
                f"idempotency key was first used with another payload, at origin {answer.origin.hex()}",
                remedy="the producer must use a new id for new content; compare the two records",
            ),
        )
        return 0

    def _is_live(self, delivery: Delivery) -> bool:
        """Whether it is the last copy of its message: an earlier one that is read again frees no key that the dead
        message's marker, further down the lane, holds."""
        key, due_ms = delivery.record.key, h.int_in(delivery.named, h.DUE_MS, 0) if delivery.lane >= 0 else 0
        return key is None or delivery.part.parked.is_live(key, delivery.origin.offset, due_ms=due_ms)

    def _drop(self, delivery: Delivery, reason: str, *, unpark: bool) -> int:
        """Settled without doing anything, for a recorded reason."""
        self._p.metrics.skipped(self._p.route.name, reason)
        self._p.log.debug(events.MESSAGE_SKIPPED, reason=reason, origin=str(delivery.origin))
        if unpark:
            self._p.unpark(delivery)
        self._p.retire(delivery, settled=True)
        return 0
