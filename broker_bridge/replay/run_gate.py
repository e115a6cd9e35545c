"""Where a run waits: for its rate, for the canary, for the group, or because somebody paused it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from broker_bridge.clock import Clock
from broker_bridge.core.operation import Operation
from broker_bridge.core.replay_pace import ENDED, Phase, ReplayPace
from broker_bridge.replay.lane_watch import LaneWatch
from broker_bridge.replay.pause_orders import PauseOrders

ASK_MS: Final = 1_000
"""How often a run asks whether it was paused."""

PausedHook = Callable[[Operation], Awaitable[None]]


class RunGate:
    """Lets records through as ``pace`` allows, until ``stop`` is set or the pace ends the run.

    ``reason`` says what is waited for now, empty while nothing is; ``told`` is called at each look at that.
    """

    def __init__(
        self,
        pace: ReplayPace,
        watch: LaneWatch,
        *,
        clock: Clock,
        stop: asyncio.Event,
        orders: PauseOrders | None,
        on_pause: PausedHook | None,
        told: Callable[[], None],
    ) -> None:
        self._pace = pace
        self._watch = watch
        self._clock = clock
        self._stop = stop
        self._orders = orders
        self._on_pause = on_pause
        self._told = told
        self._asked_ms = 0
        self._pause: Operation | None = None
        self.reason = ""

    async def admit(self, wanted: int) -> int:
        """Wait until some of ``wanted`` records may be sent, and answer how many; 0 where the run is over."""
        while True:
            if self._stop.is_set():
                return 0
            now_ms = self._clock.now_ms()
            await self._follow_orders(now_ms)
            if self._pace.is_look_due(now_ms):
                self._pace.look(await self._watch.look(self._pace.phase))
            if self._pace.phase in ENDED:
                return 0
            amount, wait_ms = (0, float(ASK_MS)) if self._pause else self._pace.take(wanted, now_ms=now_ms)
            self._tell()
            if amount:
                return amount
            await self._wait(wait_ms)

    async def _follow_orders(self, now_ms: int) -> None:
        if self._orders is None or now_ms - self._asked_ms < ASK_MS:
            return
        self._asked_ms = now_ms
        before, self._pause = self._pause, await self._orders.pause()
        if self._pause is not None and before is None and self._on_pause is not None:
            await self._on_pause(self._pause)

    def _tell(self) -> None:
        if self._pause is not None:
            self.reason = f"paused by {self._pause.by}: {self._pause.why}"
        else:
            self.reason = _REASONS.get(self._pace.phase, "")
        self._told()

    async def _wait(self, wait_ms: float) -> None:
        # At least what the clock can show: a shorter sleep would find the same time again.
        sleep = asyncio.ensure_future(self._clock.sleep_ms(max(1.0, min(wait_ms, ASK_MS))))
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({sleep, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            stopped.cancel()


_REASONS: Final = {
    Phase.WATCHING: "to see what becomes of the first: a worker must run, and its route must not stand still",
    Phase.LANE_FULL: "the group has enough to do",
    Phase.STANDSTILL: "the group reads nothing: is a worker running, is its target away?",
    Phase.TARGET_AWAY: "the worker's target is away",
}
