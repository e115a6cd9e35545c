"""``Producer.send_batch``."""

from __future__ import annotations

from typing import Any

from benchmarks.job import ORDER, SCHEMAS, Job
from benchmarks.peers.producing import SOURCE, in_batches
from benchmarks.stopwatch import Stopwatch
from broker_bridge import Bridge, Event


async def run(job: Job, watch: Stopwatch) -> None:
    """All events."""
    bridge = Bridge(kafka=job.bootstrap, redis=job.redis_url, schemas=SCHEMAS)
    async with bridge.producer(source=SOURCE) as producer:

        async def send(batch: list[dict[str, Any]]) -> None:
            events = [
                Event(
                    topic=job.results,
                    value=order,
                    contract=ORDER,
                    key=order["customer_id"],
                    event_id=order["order_id"],
                )
                for order in batch
            ]
            for answer in await producer.send_batch(events):
                if isinstance(answer, Exception):
                    raise answer

        await in_batches(job, watch, send)
