"""Time that passes only when nothing else can happen: an hour of waiting takes no time, and every run is the same.

::

    def test_retry() -> None:
        run_virtual(scenario())       # asyncio.sleep(3600) in there returns at once

The loop's own clock is virtual, so ``asyncio.sleep``, timeouts and ``LoopClock`` all follow it. Real sockets do not:
use the in-memory transport and store.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

START_MS = 1_790_000_000_000
"""Where virtual wall time begins (2026-09-21T14:13:20Z)."""
_DEADLOCK_S = 5.0
_LOOK_EVERY = 16
"""Steps with work to do between two looks at real sockets and threads."""


class DeadlockError(RuntimeError):
    """Every task waits for another one, and no timer is set: nothing would ever happen again."""


class _SkippingSelector(selectors.DefaultSelector):
    """Instead of waiting for a timer, moves the loop's time on to it."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.steps = 0
        self.interrupts: list[tuple[int, int, Callable[[], None]]] = []
        self.serial = itertools.count()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.steps += 1
        if self.interrupts and self.interrupts[0][0] <= self.steps:
            heapq.heappop(self.interrupts)[2]()
            timeout = 0  # it may have made work
        if timeout is not None and timeout <= 0 and self.steps % _LOOK_EVERY:
            return []  # there is work; a look at the real world costs more than most of it
        found = super().select(0)
        if found or (timeout is not None and timeout <= 0):
            return found
        if timeout is not None:
            self.now_s += timeout
            return []
        found = super().select(_DEADLOCK_S)
        if not found:
            raise DeadlockError("nothing can happen any more: every task waits and no timer is set")
        return found


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is virtual."""

    def __init__(self) -> None:
        self._skipping = _SkippingSelector()
        super().__init__(self._skipping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._skipping.now_s

    def interrupt(self, after_steps: int, action: Callable[[], None]) -> None:
        """Call ``action`` between two steps of the loop, so many steps from now: anywhere that code can be suspended,
        which no timer would hit."""
        interrupts = self._skipping.interrupts
        heapq.heappush(interrupts, (self._skipping.steps + after_steps, next(self._skipping.serial), action))


class LoopClock:
    """A ``Clock`` that follows the running event loop's time."""

    def __init__(self, start_ms: int = START_MS) -> None:
        self._start_ms = start_ms

    def now_ms(self) -> int:
        """Milliseconds since the epoch, as far as the loop is concerned."""
        return self._start_ms + round(asyncio.get_running_loop().time() * 1000)

    async def sleep_ms(self, delay_ms: float) -> None:
        """Sleep on the loop."""
        await asyncio.sleep(delay_ms / 1000)


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
