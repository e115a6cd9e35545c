"""Kafka to HTTP by hand: a batch, its orders posted so many at a time, a commit. Nothing is claimed or kept in
order."""

from __future__ import annotations

from typing import Any

from benchmarks.job import BATCH, Job
from benchmarks.peers.clients import consumer_of
from benchmarks.peers.http_posting import post_all, session
from benchmarks.stopwatch import Stopwatch


async def run(job: Job, watch: Stopwatch) -> None:
    """Forward everything."""
    consumer = consumer_of(job)
    await consumer.start()
    try:
        async with session() as client:
            while watch.records < job.records:
                fetched = await consumer.getmany(timeout_ms=200, max_records=BATCH)
                records: list[Any] = [record for batch in fetched.values() for record in batch]
                if not records:
                    continue
                watch.begin()
                await post_all(client, job.options["url"], records)
                await consumer.commit()
                watch.did(len(records), len(records))
    finally:
        await consumer.stop()
