"""aiokafka and fastavro by hand: one event, sent and awaited."""

from __future__ import annotations

from typing import Any

from benchmarks.job import Job
from benchmarks.peers.bare_events import arguments_of
from benchmarks.peers.clients import producer_of
from benchmarks.peers.producing import one_at_a_time
from benchmarks.stopwatch import Stopwatch


async def run(job: Job, watch: Stopwatch) -> None:
    """All events."""
    producer = producer_of(job)
    await producer.start()

    async def send(order: dict[str, Any]) -> None:
        await producer.send_and_wait(**arguments_of(job, order))

    try:
        await one_at_a_time(job, watch, send)
    finally:
        await producer.stop()
