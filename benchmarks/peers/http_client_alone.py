"""Only the client: the records are read before the clock runs, and nothing is committed."""

from __future__ import annotations

from typing import Any

from benchmarks.job import Job
from benchmarks.peers.clients import consumer_of
from benchmarks.peers.http_posting import post_all, session
from benchmarks.stopwatch import Stopwatch


async def run(job: Job, watch: Stopwatch) -> None:
    """Post everything."""
    consumer, records = consumer_of(job), list[Any]()
    await consumer.start()
    while len(records) < job.records:
        for batch in (await consumer.getmany(timeout_ms=200)).values():
            records += batch
    await consumer.stop()
    async with session() as client:
        watch.begin()
        await post_all(client, job.options["url"], records)
        watch.did(len(records), len(records))
