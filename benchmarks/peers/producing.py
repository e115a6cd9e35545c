"""The events that the producers send, and the loops around them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from benchmarks.job import BATCH, Job, order
from benchmarks.stopwatch import Stopwatch

SOURCE = "/bench"

Order = dict[str, Any]


def batches(count: int) -> Iterator[list[Order]]:
    """All orders, in batches, made before the clock runs."""
    yield from [
        [order(number) for number in range(start, min(start + BATCH, count))] for start in range(0, count, BATCH)
    ]


async def in_batches(job: Job, watch: Stopwatch, send: Callable[[list[Order]], Awaitable[object]]) -> None:
    """Each batch acknowledged before the next."""
    made = list(batches(job.records))
    watch.begin()
    for batch in made:
        await send(batch)
        watch.did(len(batch), len(batch))


async def one_at_a_time(job: Job, watch: Stopwatch, send: Callable[[Order], Awaitable[object]]) -> None:
    """Each event acknowledged before the next."""
    made = [value for batch in batches(job.records) for value in batch]
    watch.begin()
    for value in made:
        await send(value)
        watch.did(1, 1)
