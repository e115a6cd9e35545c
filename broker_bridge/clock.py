"""Time as a value: the engine asks a clock, so that tests and simulations can own time."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for what is written down, and waiting. Both implementations are exercised by the worker's tests."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""

    async def sleep_ms(self, delay_ms: float) -> None:
        """Return after ``delay_ms`` milliseconds of this clock."""


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, from the system clock."""
        return time.time_ns() // 1_000_000

    async def sleep_ms(self, delay_ms: float) -> None:
        """Sleep on the running event loop."""
        await asyncio.sleep(delay_ms / 1000)
