"""Reading a topic of dead letters by hand: a bare aiokafka consumer, every header in hand, nothing looked at."""

from __future__ import annotations

from benchmarks.job import Job
from benchmarks.peers.clients import reader_of
from benchmarks.stopwatch import Stopwatch


async def run(job: Job, watch: Stopwatch) -> None:
    """From the first record to the last."""
    consumer = await reader_of(job, job.options["topic"])
    try:
        watch.begin()
        while watch.records < job.records:
            fetched = await consumer.getmany(timeout_ms=200)
            watch.did(sum(map(len, fetched.values())), 0)
    finally:
        await consumer.stop()
