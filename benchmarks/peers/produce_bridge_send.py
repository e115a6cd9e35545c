"""``Producer.send``."""

from __future__ import annotations

from typing import Any

from benchmarks.job import ORDER, SCHEMAS, Job
from benchmarks.peers.producing import SOURCE, one_at_a_time
from benchmarks.stopwatch import Stopwatch
from broker_bridge import Bridge


async def run(job: Job, watch: Stopwatch) -> None:
    """All events."""
    bridge = Bridge(kafka=job.bootstrap, redis=job.redis_url, schemas=SCHEMAS)
    async with bridge.producer(source=SOURCE) as producer:

        async def send(order: dict[str, Any]) -> None:
            key, event_id = order["customer_id"], order["order_id"]
            await producer.send(job.results, order, key=key, contract=ORDER, event_id=event_id)

        await one_at_a_time(job, watch, send)
