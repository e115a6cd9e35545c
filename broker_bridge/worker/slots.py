"""Running handlers: a fixed number of slots take messages whose turn it is. No task is made per message."""

from __future__ import annotations

import asyncio
import math

from broker_bridge.core.circuit_breaker import BreakerState
from broker_bridge.errors import BridgeError, DeliveryError, HandlerStuckError, OutputInvalidError
from broker_bridge.observability import events
from broker_bridge.observability.logging import key_hash
from broker_bridge.worker.attempt import Attempt
from broker_bridge.worker.begun import Begun
from broker_bridge.worker.deadlines import Task
from broker_bridge.worker.delivery import Delivery
from broker_bridge.worker.pipeline import Aborted, Parked, Pipeline
from broker_bridge.worker.stale_replays import STALE, StaleReplays
from broker_bridge.worker.suspects import Suspects

_BREAKER_EVENTS = {
    BreakerState.CLOSED: events.BREAKER_CLOSED,
    BreakerState.HALF_OPEN: events.BREAKER_PROBING,
    BreakerState.OPEN: events.BREAKER_OPENED,
}
_ANSWERS = (OutputInvalidError,)
"""Failures after the effect. All others may come of what a handler does before it asks its target: they say nothing of
whether that is there."""
_ENOUGH = None, None
_SUSPECT_WAIT_MS = 50
_YIELD_EVERY = 64
_YIELD_AFTER_S = 0.05
"""Messages a slot may run without suspending before it lets other tasks have the loop; fewer where handlers block it:
64 of half a second each would outlast every lease in hand."""
_STORE_LOOK_MS = 500
"""How soon to ask the store again for what a start waits for."""
_BUDGET_LOOK_MS = 100
_BUDGET_LOOKS = 20
"""How soon to look again whether a retry is within the target's budget, and after how many such times at the latest."""
_BUSY_LOOK_MS = 20
"""How soon to look again when something is due and every slot is busy; a slot that gets free looks by itself."""


class Slots:
    """The route's concurrency. Also owns the timer that wakes slots when a postponed head falls due or a breaker may
    probe."""

    def __init__(self, pipeline: Pipeline, attempt: Attempt, suspects: Suspects, stale: StaleReplays) -> None:
        self._p = pipeline
        self._attempt = attempt
        self._suspects = suspects
        self._stale = stale
        self._denied = 0
        self._first_attempts = 0
        self._wall_ms = 0
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
        stuck = [delivery for delivery in self._p.held.values() if delivery.overrun_s < math.inf]
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
        task = asyncio.current_task()
        assert task is not None, "a slot is a task"
        while True:
            found = self._advance()
            if found is None:
                await self._p.work.wait()
            elif found[0] is None:
                await asyncio.sleep(0)
            else:
                await self._go_on(task, *found)

    def _advance(self) -> tuple[Delivery, Begun | None] | tuple[None, None] | None:
        """Try messages until one has to wait, or none is left, or others should have the loop (``_ENOUGH``)."""
        pipeline, self._first_attempts = self._p, 0
        began_s = pipeline.ticks_s
        self._wall_ms = pipeline.clock.now_ms() - round(began_s * 1000)
        try:
            for _ in range(_YIELD_EVERY):
                delivery = self._take()
                if delivery is None:
                    return None
                if delivery.crashes or (delivery.is_retry and self._stale.concerns(delivery)):
                    return delivery, None
                begun = self._begin(delivery)
                if begun is not None:
                    return delivery, begun
                if delivery.began_s - began_s > _YIELD_AFTER_S:
                    break
        finally:
            if self._first_attempts:
                pipeline.budget.attempted(pipeline.ticks_ms, self._first_attempts)
            if pipeline.answered:
                pipeline.ended.wake()
        return _ENOUGH

    async def _go_on(self, task: Task, delivery: Delivery, begun: Begun | None) -> None:
        """Something has to be waited for; another slot goes on meanwhile."""
        if self._p.lanes.ready:
            self._p.work.wake()
        if begun is None and await self._note_start(delivery):
            begun = self._begin(delivery)
        if begun is not None:
            await self._finish(task, delivery, begun)
        if self._p.answered:
            self._p.ended.wake()

    def _take(self) -> Delivery | None:
        """The next message to be tried. Between the check and the start nothing awaits."""
        pipeline = self._p
        while True:
            now_s = pipeline.ticks_s  # once a message
            now_ms = int(now_s * 1000 + 0.5)  # as ``ticks_ms``, by which it was postponed
            if pipeline.closing or pipeline.stopped:
                return None
            if not (pipeline.breaker.is_closed or pipeline.breaker.may_admit(now_ms)):
                return None
            delivery = pipeline.lanes.take(now_ms)
            if delivery is None:
                return None
            if self._may_start(delivery, now_s, now_ms):
                delivery.began_s, delivery.started_ms = now_s, now_ms + self._wall_ms
                delivery.probe = not pipeline.breaker.is_closed and pipeline.breaker.admitted(now_ms)
                return delivery

    def _may_start(self, delivery: Delivery, now_s: float, now_ms: int) -> bool:
        """Whether its turn has come; where it has not, it is where it has to wait."""
        pipeline = self._p
        part = delivery.part
        if part.gone:
            pipeline.retire(delivery, settled=False)
        elif delivery.token == 0 or self._has_run_out(delivery, now_s):
            self._claim_again(delivery, now_ms)
        elif self._in_order and part.parked and (lane := self._lane_ahead(delivery)) is not None:
            if not pipeline.wait_behind(delivery, lane):
                pipeline.report(delivery, Parked(lane))
        elif delivery.crashes and self._suspects.must_wait(delivery):
            pipeline.postpone(delivery, delay_ms=_SUSPECT_WAIT_MS)
        elif delivery.is_retry and not self._is_affordable(now_ms):
            pipeline.postpone(delivery, delay_ms=self._budget_wait_ms(now_ms))
        else:
            self._first_attempts += not delivery.is_retry
            return True
        return False

    def _has_run_out(self, delivery: Delivery, now_s: float) -> bool:
        """Whether somebody else may hold the claim by now: it is asked for again before anything starts (I8)."""
        if not delivery.lost and now_s < delivery.lease_end_s:
            return False
        self._p.let_go(delivery)
        delivery.token, delivery.lost, delivery.ask_at_ms = 0, False, 0
        return True

    def _is_affordable(self, now_ms: int) -> bool:
        """Whether the target's budget has room for a retry, which is counted then; first attempts always have it."""
        budget = self._p.budget
        if self._first_attempts:
            budget.attempted(now_ms, self._first_attempts)
            self._first_attempts = 0
        if budget.allows(now_ms):
            budget.retried(now_ms)
            self._denied //= 2
            return True
        self._denied += 1
        self._p.metrics.budget_denied(self._p.route.name)
        return False

    def _budget_wait_ms(self, now_ms: int) -> int:
        """Longer, the more of them wait; and all at the same times, so that slots are not woken for each."""
        looks = min(1 + self._denied // 100, _BUDGET_LOOKS)
        return looks * _BUDGET_LOOK_MS - now_ms % _BUDGET_LOOK_MS

    def _claim_again(self, delivery: Delivery, now_ms: int) -> None:
        """Ask for its claim, unless it repeats a message that was answered here and is about to be settled: it is
        settled with that one. To ask until it is would hold its key up for 50 ms each time. With another payload it is
        no repeat but a conflict, and for the store to judge::

            lane of one key   m1    m1 again          m2
            claims            ours  busy: m1 has it   ours
            its turn          done  done with m1      done
        """
        original = self._p.holder(delivery)
        if original is not None and original.answered and original.fingerprint == delivery.fingerprint:
            self._p.unqueue(delivery)
            original.repeats = [*original.repeats, delivery]
        elif delivery.ask_at_ms > now_ms:
            self._p.postpone(delivery, delay_ms=delivery.ask_at_ms - now_ms)
        else:
            self._p.claim_again(delivery)

    def _lane_ahead(self, delivery: Delivery) -> int | None:
        """The retry lane an earlier message of the key is in; None where this one may run. A replay does not wait
        its turn again."""
        key = delivery.record.key
        if key is None or delivery.from_redrive:
            return None
        return delivery.part.parked.lane_ahead(key, delivery.origin.offset)

    async def _note_start(self, delivery: Delivery) -> bool:
        """Whether it may still start: that takes its time, and nothing starts of a partition that went meanwhile (I20),
        or under a lease that ran out (I8), or where nobody can tell whether a newer version was completed (I13)."""
        knows = True
        try:
            await self._suspects.before(delivery)
            if self._stale.concerns(delivery):
                knows = await self._stale.ask(delivery)
            if delivery.part.gone:
                await self._suspects.let_go(delivery)
        except asyncio.CancelledError:
            self._abort(delivery)
            raise
        pipeline, delivery.began_s = self._p, self._p.ticks_s
        delivery.started_ms = pipeline.clock.now_ms()
        if not delivery.part.gone and not self._has_run_out(delivery, delivery.began_s) and knows:
            return True
        self._suspects.after(delivery)
        if delivery.probe:
            pipeline.breaker.abandoned(pipeline.ticks_ms)
        if delivery.part.gone:
            pipeline.retire(delivery, settled=False)
        else:
            pipeline.postpone(delivery, delay_ms=0 if knows else _STORE_LOOK_MS)
        return False

    def _begin(self, delivery: Delivery) -> Begun | None:
        """Try the message. Most handlers end here; what is answered is one that waits."""
        try:
            ended = self._attempt.begin(delivery)
        except asyncio.CancelledError:
            self._abort(delivery)
            raise
        if isinstance(ended, Begun):
            return ended
        self._ended(delivery, ended)
        return None

    async def _finish(self, task: Task, delivery: Delivery, begun: Begun) -> None:
        delivery.overrun_s = delivery.began_s + self._attempt.timeout_s + self._p.route.claims.lease_ms / 1000
        try:
            error = await self._attempt.finish(delivery, begun, task)
        except asyncio.CancelledError:
            self._abort(delivery)
            raise
        if task.cancelling():  # and the handler swallowed it
            self._abort(delivery)
            raise asyncio.CancelledError
        delivery.overrun_s = math.inf
        self._ended(delivery, error)

    def _abort(self, delivery: Delivery) -> None:
        delivery.overrun_s = math.inf
        self._suspects.after(delivery)
        self._p.report(delivery, Aborted())

    def _ended(self, delivery: Delivery, error: BridgeError | None) -> None:
        pipeline = self._p
        if delivery.crashes and error is not None:
            self._suspects.after(delivery)
        if delivery.turned_away:
            self._tell_turned_away(delivery)
        elif error is None and pipeline.breaker.is_closed:
            pipeline.breaker.took(int(delivery.began_s * 1000))
        else:
            self._tell_breaker(delivery, error)
        if error is not None:
            pipeline.report(delivery, error)
            return
        delivery.answered = True
        if delivery.version is not None and not delivery.turned_away:
            self._stale.completed(delivery)
        if delivery.part.parked or pipeline.behind:
            pipeline.unpark(delivery)
        if delivery.queued:
            delivery.queued = False
            pipeline.lanes.release(delivery.order_key)  # whoever is next is for this slot to take
        pipeline.answered.append(delivery)

    def _tell_turned_away(self, delivery: Delivery) -> None:
        """The target was not asked, so this says nothing of it."""
        pipeline = self._p
        if delivery.probe:
            pipeline.breaker.abandoned(pipeline.ticks_ms)
        pipeline.metrics.skipped(pipeline.route.name, STALE)
        pipeline.log.info(
            events.MESSAGE_SKIPPED,
            reason=STALE,
            origin=str(delivery.origin),
            key_hash=key_hash(delivery.record.key),
            replay_id=delivery.replay_id,
        )

    def _tell_breaker(self, delivery: Delivery, error: BridgeError | None) -> None:
        pipeline, began_ms = self._p, int(delivery.began_s * 1000)
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
