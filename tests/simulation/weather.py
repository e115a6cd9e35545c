"""What happens to a worker around its calls: a call takes its time, the worker is paused, or it dies there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from broker_bridge.testing.lifeline import Lifeline


class Weather:
    """An ``Interference``. ``on_crash`` is told of a worker that died at a call."""

    def __init__(self, rng: random.Random, latency_s: tuple[float, ...], on_crash: Callable[[str], None]) -> None:
        self._rng = rng
        self._latency_s = latency_s
        self._on_crash = on_crash
        self._deadly: dict[str, tuple[int, bool]] = {}
        self._paused: dict[str, asyncio.Event] = {}
        self._calls: dict[str, int] = {}

    def kill_at_call(self, worker: str, after: int, *, applied: bool) -> None:
        """The worker dies at its ``after``-th call from now: before it is applied, or after, without its answer."""
        self._deadly[worker] = (self._calls.get(worker, 0) + after, applied)

    def pause(self, worker: str) -> None:
        """Nothing of it reaches anybody until ``resume``."""
        self._paused.setdefault(worker, asyncio.Event())

    def resume(self, worker: str) -> None:
        """It goes on where it was."""
        paused = self._paused.pop(worker, None)
        if paused is not None:
            paused.set()

    def clear(self) -> None:
        """No call is slow or deadly from here on."""
        self._latency_s = (0.0,)
        self._deadly.clear()
        for worker in list(self._paused):
            self.resume(worker)

    async def while_paused(self, worker: str) -> None:
        """Return when the worker is not paused."""
        while worker in self._paused:
            await self._paused[worker].wait()

    async def before(self, line: Lifeline, call: str) -> None:
        """See ``Interference.before``."""
        name = line.name
        self._calls[name] = self._calls.get(name, 0) + 1
        await self._on_the_way(name)
        if self._deadly.get(name) == (self._calls[name], False):
            self._die(line)

    async def after(self, line: Lifeline, call: str) -> None:
        """See ``Interference.after``."""
        at, applied = self._deadly.get(line.name, (0, False))
        if applied and self._calls[line.name] >= at:
            self._die(line)
        await self._on_the_way(line.name)

    async def _on_the_way(self, name: str) -> None:
        delay_s = self._rng.choice(self._latency_s)
        if delay_s:
            await asyncio.sleep(delay_s)
        if name in self._paused:
            await self.while_paused(name)

    def _die(self, line: Lifeline) -> None:
        self._deadly.pop(line.name, None)
        if not line.cut:
            line.cut_off()
            self._on_crash(line.name)
