"""Waking as many waiters as there is work for, and no more."""

from __future__ import annotations

import asyncio
from collections import deque


class WorkSignal:
    """Waiters queue up; ``wake(n)`` lets the first n go. A wake without waiters is not remembered: look for work
    first, then wait."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: deque[asyncio.Future[None]] = deque()

    def wake(self, count: int = 1) -> None:
        """Let up to ``count`` waiters go."""
        while count > 0 and self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                count -= 1

    async def wait(self, timeout_ms: float | None = None) -> None:
        """Return when woken, or after ``timeout_ms``."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1000):
                await waiter
        except TimeoutError:
            self._forget(waiter)
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.wake()
            self._forget(waiter)
            raise

    def _forget(self, waiter: asyncio.Future[None]) -> None:
        """Who waits with a timeout, again and again, must not leave a future behind each time."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
