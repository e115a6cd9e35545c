"""broker_bridge itself, all guarantees on: order per key, claims with leases, retries, dead letters, metrics, logs."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.job import PARTITIONS, Job, answer
from broker_bridge import handler
from broker_bridge.bootstrap import make_worker, open_transport
from broker_bridge.observability.logging import configure_logging
from broker_bridge.transport.base import TopicSpec
from broker_bridge.worker.topics import ensure_lanes


@handler
async def capture(order: dict[str, Any]) -> dict[str, Any]:
    """The handler."""
    return answer(order)


async def run(job: Job, limit_s: float) -> tuple[int, float]:
    """Handle everything or stop after ``limit_s``; returns how many records in how many seconds, until the last was
    committed."""
    config = job.config(poll_records=2_000, max_in_flight=8_000, commit_interval="200ms")
    configure_logging(config.logging.level, config.logging.format, service="bench")
    admin = open_transport(config).admin()
    await admin.start()
    await admin.ensure([TopicSpec(job.results, PARTITIONS)])
    await ensure_lanes(admin, config.routes[0], replication=1)
    await admin.stop()
    worker = make_worker(config)
    running = asyncio.create_task(worker.run())
    loop, started, done = asyncio.get_running_loop(), 0.0, 0
    (route,) = worker.routes
    while done < job.records and (not started or loop.time() - started < limit_s):
        await asyncio.sleep(0.01)
        if running.done():
            running.result()
        if not started and route.pipeline.in_flight:
            started = loop.time()
        done = sum(state.committed or 0 for state in route.pipeline.assignment.sources())
    took_s = loop.time() - started
    worker.stop()
    await running
    return done, took_s
