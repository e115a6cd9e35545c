"""Running handlers: a fixed number of slots take messages whose turn it is. No task is made per message."""

from __future__ import annotations

import asyncio
import math

from broker_bridge.core.circuit_breaker import BreakerState
from broker_bridge.errors import BridgeError, DeliveryError, HandlerStuckError, OutputInvalidError
from broker_bridge.observability import events
from broker_bridge.observability.logging import key_hash
from broker_bridge.worker.attempt import Attempt, Waiting
from broker_bridge.worker.cancellation import is_cancelled
from broker_bridge.worker.claim_stage import ClaimStage
from broker_bridge.worker.delivery import Delivery
from broker_bridge.worker.pipeline import Aborted, Answered, Parked, Pipeline
from broker_bridge.worker.suspects import Suspects

_BREAKER_EVENTS = {
    BreakerState.CLOSED: events.BREAKER_CLOSED,
    BreakerState.HALF_OPEN: events.BREAKER_PROBING,
    BreakerState.OPEN: events.BREAKER_OPENED,
}
_ANSWERS = (OutputInvalidError,)
"""Failures after the effect. All others may come of what a handler does before it asks its target: they say nothing of
whether that is there."""
_ANSWERED = Answered()
_SUSPECT_WAIT_MS = 50
_YIELD_EVERY = 64
"""Messages a slot may run without suspending before it lets other tasks have the loop."""
_BUDGET_LOOK_MS = 100
_BUDGET_LOOKS = 20
"""How soon to look again whether a retry is within the target's budget, and after how many such times at the latest."""
_BUSY_LOOK_MS = 20
"""How soon to look again when something is due and every slot is busy; a slot that gets free looks by itself."""


class Slots:
    """The route's concurrency. Also owns the timer that wakes slots when a postponed head falls due or a breaker may
    probe."""

    def __init__(self, pipeline: Pipeline, claims: ClaimStage, attempt: Attempt, suspects: Suspects) -> None:
        self._p = pipeline
        self._claims = claims
        self._attempt = attempt
        self._suspects = suspects
        self._denied = 0
        self._in_order = pipeline.route.order == "key"

    async def run(self) -> None:
        """Run until cancelled: what is being handled then is aborted. Raises ``HandlerStuckError`` where a handler does
        not end within the grace time: no task can be made to, so it is left behind, and its claim runs out."""
        tasks = [asyncio.create_task(self._slot()) for _ in range(self._p.route.concurrency)]
        tasks.append(asyncio.create_task(self._timer()))
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)  # none ends by itself
        finally:
            for task in tasks:
                task.cancel()
            _, left = await asyncio.wait(tasks, timeout=self._p.route.shutdown.grace_ms / 1000)
            if left:
                self._leave_behind()
        for task in ended:
            task.result()

    def _leave_behind(self) -> None:
        stuck = [delivery for delivery in self._p.held if delivery.overrun_s < math.inf]
        for delivery in stuck:
            self._p.log.error(
                events.HANDLER_STUCK,
                origin=str(delivery.origin),
                key_hash=key_hash(delivery.record.key),
                attempt=delivery.tries,
                fencing_token=delivery.token,
                started_ms=delivery.started_ms,
            )
        where = ", ".join(str(delivery.origin) for delivery in stuck)
        raise HandlerStuckError(f"the handler of {where} goes on although it was cancelled", where=self._p.route.name)

    async def _slot(self) -> None:
        streak = 0
        while True:
            delivery = self._take()
            if delivery is None:
                streak = 0
                await self._p.work.wait()
                continue
            if delivery.crashes and not await self._note_start(delivery):
                continue
            waiting = self._begin(delivery)
            if waiting is not None:
                await self._finish(delivery, waiting)
            streak += 1
            if streak % _YIELD_EVERY == 0:
                await asyncio.sleep(0)

    def _take(self) -> Delivery | None:
        """The next message to be tried. Between the check and the start nothing awaits."""
        pipeline = self._p
        while True:
            now_s = pipeline.ticks_s  # once a message
            now_ms = round(now_s * 1000)
            if pipeline.closing or pipeline.stopped or not pipeline.breaker.may_admit(now_ms):
                return None
            delivery = pipeline.lanes.take(now_ms)
            if delivery is None:
                return None
            if delivery.part.gone:
                pipeline.retire(delivery, settled=False)
            elif delivery.token == 0 or self._has_run_out(delivery, now_s):
                self._claim_again(delivery, now_ms)
            elif self._in_order and (lane := self._lane_ahead(delivery)) is not None:
                if not pipeline.wait_behind(delivery, lane):
                    pipeline.report(delivery, Parked(lane))
            elif delivery.crashes and self._suspects.must_wait(delivery):
                pipeline.postpone(delivery, delay_ms=_SUSPECT_WAIT_MS)
            elif not self._is_affordable(delivery, now_ms):
                pipeline.postpone(delivery, delay_ms=self._budget_wait_ms(now_ms))
            else:
                delivery.began_s, delivery.probe = now_s, pipeline.breaker.admitted(now_ms)
                return delivery

    def _has_run_out(self, delivery: Delivery, now_s: float) -> bool:
        """Whether somebody else may hold the claim by now: it is asked for again before anything starts (I8)."""
        if not delivery.lost and now_s < delivery.lease_end_s:
            return False
        self._p.held.pop(delivery, None)
        delivery.token, delivery.lost, delivery.ask_at_ms = 0, False, 0
        return True

    def _is_affordable(self, delivery: Delivery, now_ms: int) -> bool:
        """Whether the target's budget has room for it, which a first attempt always finds; counts what is to start."""
        budget = self._p.budget
        if not delivery.is_retry:
            budget.attempted(now_ms)
        elif budget.allows(now_ms):
            budget.retried(now_ms)
            self._denied //= 2
        else:
            self._denied += 1
            self._p.metrics.budget_denied(self._p.route.name)
            return False
        return True

    def _budget_wait_ms(self, now_ms: int) -> int:
        """Longer, the more of them wait; and all at the same times, so that slots are not woken for each."""
        looks = min(1 + self._denied // 100, _BUDGET_LOOKS)
        return looks * _BUDGET_LOOK_MS - now_ms % _BUDGET_LOOK_MS

    def _claim_again(self, delivery: Delivery, now_ms: int) -> None:
        if delivery.ask_at_ms > now_ms:
            self._p.postpone(delivery, delay_ms=delivery.ask_at_ms - now_ms)
        else:
            self._p.reclaims.append(delivery)
            self._claims.wake()

    def _lane_ahead(self, delivery: Delivery) -> int | None:
        """The retry lane an earlier message of the key is in; None where this one may run. A replay does not wait
        its turn again."""
        key = delivery.record.key
        if key is None or delivery.from_redrive:
            return None
        return delivery.part.parked.lane_ahead(key, delivery.origin.offset)

    async def _note_start(self, delivery: Delivery) -> bool:
        """Whether it may still start: that takes its time, and nothing starts of a partition that went meanwhile (I20),
        or under a lease that ran out (I8)."""
        try:
            await self._suspects.before(delivery)
            if delivery.part.gone:
                await self._suspects.let_go(delivery)
        except asyncio.CancelledError:
            self._abort(delivery)
            raise
        pipeline, delivery.began_s = self._p, self._p.ticks_s
        if not delivery.part.gone and not self._has_run_out(delivery, delivery.began_s):
            return True
        self._suspects.after(delivery)
        if delivery.probe:
            pipeline.breaker.abandoned(pipeline.ticks_ms)
        if delivery.part.gone:
            pipeline.retire(delivery, settled=False)
        else:
            pipeline.postpone(delivery, delay_ms=0)
        return False

    def _begin(self, delivery: Delivery) -> Waiting | None:
        """Try the message. Most handlers end here; what is answered is one that waits."""
        delivery.started_ms = self._p.clock.now_ms()
        try:
            ended = self._attempt.begin(delivery)
        except asyncio.CancelledError:
            self._abort(delivery)
            raise
        if isinstance(ended, Waiting):
            return ended
        self._ended(delivery, ended)
        return None

    async def _finish(self, delivery: Delivery, waiting: Waiting) -> None:
        delivery.overrun_s = delivery.began_s + self._attempt.timeout_s + self._p.route.claims.lease_ms / 1000
        try:
            error = await self._attempt.finish(delivery, waiting)
        except asyncio.CancelledError:
            self._abort(delivery)
            raise
        if is_cancelled():  # and the handler swallowed it
            self._abort(delivery)
            raise asyncio.CancelledError
        delivery.overrun_s = math.inf
        self._ended(delivery, error)

    def _abort(self, delivery: Delivery) -> None:
        delivery.overrun_s = math.inf
        self._suspects.after(delivery)
        self._p.report(delivery, Aborted())

    def _ended(self, delivery: Delivery, error: BridgeError | None) -> None:
        if delivery.crashes:
            self._suspects.after(delivery)
        self._tell_breaker(delivery, error)
        if error is None:
            self._p.unpark(delivery)
            self._p.unqueue(delivery)
            self._p.report(delivery, _ANSWERED)
        else:
            self._p.report(delivery, error)

    def _tell_breaker(self, delivery: Delivery, error: BridgeError | None) -> None:
        pipeline, began_ms = self._p, round(delivery.began_s * 1000)
        if error is None and pipeline.breaker.is_closed:  # nearly always, and then the time does not matter
            pipeline.breaker.succeeded(delivery.order_key, began_ms, began_ms=began_ms)
            return
        now_ms = pipeline.ticks_ms
        before = pipeline.breaker.state(now_ms)
        if before is BreakerState.HALF_OPEN and not delivery.probe:
            return  # it began before the outage was known and says nothing of now
        if isinstance(error, DeliveryError) and error.outage:
            pipeline.breaker.failed(delivery.order_key if error.spends_attempt else object(), now_ms)
        elif error is None or isinstance(error, _ANSWERS):
            pipeline.breaker.succeeded(delivery.order_key, now_ms, began_ms=began_ms)
        else:
            pipeline.breaker.abandoned(now_ms)
        after = pipeline.breaker.state(now_ms)
        if after is not before:
            pipeline.metrics.breaker(pipeline.route.name, int(after))
            pipeline.log.warning(
                _BREAKER_EVENTS[after],
                state=after.name.lower(),
                code=error.code if error else None,
                delay_ms=pipeline.breaker.reopens_in_ms(now_ms),
            )
            pipeline.timers.wake()
            if after is BreakerState.CLOSED:
                pipeline.work.wake(pipeline.route.concurrency)

    async def _timer(self) -> None:
        while True:
            now_ms = self._p.ticks_ms
            due_ms = self._next_wake_ms(now_ms)
            if due_ms is not None and due_ms <= now_ms:
                self._p.work.wake(self._p.route.concurrency)
                await self._p.timers.wait(_BUSY_LOOK_MS)
            else:
                await self._p.timers.wait(None if due_ms is None else due_ms - now_ms)

    def _next_wake_ms(self, now_ms: int) -> int | None:
        """When there may be something to start: a postponed head, unless the breaker is open for longer; a probe, which
        nothing else would wake when the breaker's time is up."""
        breaker, lanes = self._p.breaker, self._p.lanes
        if breaker.state(now_ms) is BreakerState.OPEN:
            return now_ms + breaker.reopens_in_ms(now_ms)
        if breaker.state(now_ms) is BreakerState.HALF_OPEN and lanes.ready and breaker.may_admit(now_ms):
            return now_ms
        return lanes.next_due_ms()
