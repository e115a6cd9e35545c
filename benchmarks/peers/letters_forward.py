"""Reading dead letters and writing each into a lane by hand: headers and all, the partition kept, acknowledged by all.

As fast as one gets it: Kafka batches built by hand and as large as a request may be, one future a batch, the next
fetch worked on while the last batches are on their way. No plan, no claims, no rate, nothing to go on from.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer

from benchmarks.job import Job
from benchmarks.peers.clients import reader_of
from benchmarks.stopwatch import Stopwatch

REQUEST_BYTES = 1_000_000
ON_THEIR_WAY = 16
"""Batches that may be unacknowledged before the loop waits for the oldest."""


async def run(job: Job, watch: Stopwatch) -> None:
    """From the first record to the last acknowledgement."""
    consumer = await reader_of(job, job.options["topic"])
    producer = AIOKafkaProducer(
        bootstrap_servers=job.bootstrap,
        acks="all",
        enable_idempotence=True,
        max_batch_size=REQUEST_BYTES,
        max_request_size=REQUEST_BYTES,
    )
    await producer.start()
    under_way: list[asyncio.Future[Any]] = []
    try:
        watch.begin()
        while watch.records < job.records:
            fetched = await consumer.getmany(timeout_ms=200)
            for tp, records in fetched.items():
                under_way += await _written(producer, job.options["lane"], tp.partition, records)
            oldest, under_way = under_way[:-ON_THEIR_WAY], under_way[-ON_THEIR_WAY:]
            await asyncio.gather(*oldest)
            watch.did(sum(map(len, fetched.values())), 0)
        await asyncio.gather(*under_way)
        watch.did(0, watch.records)
    finally:
        await consumer.stop()
        await producer.stop()


async def _written(
    producer: AIOKafkaProducer, lane: str, partition: int, records: Sequence[Any]
) -> list[asyncio.Future[Any]]:
    """The batches of these records, handed over; their futures."""
    now_ms, sent = int(time.time() * 1000), []
    batch = producer.create_batch()
    for record in records:
        content = {"key": record.key, "value": record.value, "timestamp": now_ms, "headers": list(record.headers)}
        if batch.append(**content) is None:
            sent.append(await producer.send_batch(batch, lane, partition=partition))
            batch = producer.create_batch()
            batch.append(**content)
    sent.append(await producer.send_batch(batch, lane, partition=partition))
    return sent
