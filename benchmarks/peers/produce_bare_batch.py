"""aiokafka and fastavro by hand: a batch pipelined, then awaited."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.job import Job
from benchmarks.peers.bare_events import arguments_of
from benchmarks.peers.clients import producer_of
from benchmarks.peers.producing import in_batches
from benchmarks.stopwatch import Stopwatch


async def run(job: Job, watch: Stopwatch) -> None:
    """All events."""
    producer = producer_of(job, linger_ms=2)
    await producer.start()

    async def send(batch: list[dict[str, Any]]) -> None:
        await asyncio.gather(*[await producer.send(**arguments_of(job, order)) for order in batch])

    try:
        await in_batches(job, watch, send)
    finally:
        await producer.stop()
