"""broker_bridge itself, all guarantees on: order per key, claims with leases, retries in place and in lanes, dead
letters, metrics, structured logs."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.job import PARTITIONS, Job, answer
from benchmarks.peers.clients import stop_at_sigterm
from benchmarks.stopwatch import Stopwatch
from broker_bridge import Context, handler
from broker_bridge.bootstrap import make_worker, open_transport
from broker_bridge.config import BridgeConfig
from broker_bridge.observability.logging import configure_logging
from broker_bridge.transport.base import TopicSpec
from broker_bridge.worker import slots
from broker_bridge.worker.supervisor import Worker
from broker_bridge.worker.topics import ensure_lanes

SETTINGS = {"poll_records": 2_000, "max_in_flight": 8_000, "commit_interval": "200ms", "retry": {"lanes": ["2s", "1m"]}}
LOOK_S = 0.01


@handler
async def capture(order: dict[str, Any]) -> dict[str, Any]:
    """The handler."""
    return answer(order)


@handler
async def capture_at_second_try(order: dict[str, Any], context: Context) -> dict[str, Any]:
    """A tenth of the orders fail once."""
    if context.attempt == 1 and int(order["order_id"][6:18]) % 10 == 0:
        raise ConnectionError("a tenth of the first attempts fail")
    return answer(order)


@handler
async def always_fails(order: dict[str, Any]) -> dict[str, Any]:
    """The first message of each key goes to a retry lane, the others park behind it."""
    raise ConnectionError("nothing works today")


async def run(job: Job, watch: Stopwatch) -> None:
    """Handle everything, until the last record is committed or until told to stop."""
    config = job.config(**(SETTINGS | job.options.get("route", {})))
    configure_logging(config.logging.level, config.logging.format, service="bench")
    await prepare(config, job)
    worker, stopped = make_worker(config), stop_at_sigterm()
    watch.extra["compiled"] = not slots.__file__.endswith(".py")
    running = asyncio.create_task(worker.run())
    while not stopped.is_set() and watch.records < job.records:
        await asyncio.sleep(LOOK_S)
        if running.done():
            running.result()
        _look(worker, job, watch)
    worker.stop()
    await running


async def prepare(config: BridgeConfig, job: Job) -> None:
    """The topics that ``worker run`` and an operator would make."""
    admin = open_transport(config).admin()
    await admin.start()
    await admin.ensure([TopicSpec(job.results, PARTITIONS)])
    await ensure_lanes(admin, config.routes[0], replication=1)
    await admin.stop()


def _look(worker: Worker, job: Job, watch: Stopwatch) -> None:
    """What ``/routes`` would show."""
    (route,) = worker.routes
    details: Any = route.details()
    if details["in_flight"]:
        watch.begin()
    done = sum(
        state["committed"] or 0
        for name, state in details["partitions"].items()
        if name.rpartition("/")[0] == job.source
    )
    if watch.began_at and done != watch.records:
        watch.reached(done, done)
    watch.extra["parked"] = max(watch.extra.get("parked", 0), details["parked"])
