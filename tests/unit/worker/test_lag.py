"""How far behind a route is: told by partition, for those that are ours, whatever happens in between."""

from __future__ import annotations

import asyncio
from typing import Any

from orders import GROUP, TOPIC, place, shop

from broker_bridge import Context, Message
from broker_bridge.message import TopicPartition
from broker_bridge.testing import InMemoryBridge, run_virtual
from broker_bridge.testing.in_memory import RunningWorker
from broker_bridge.worker.lag_watcher import LOOK_EVERY_MS

A_LOOK_S = LOOK_EVERY_MS / 1000 + 0.1


def lags(running: RunningWorker, *, gauge: str = "lag") -> dict[int, float]:
    """The lag of each source partition that the worker tells of, by metric."""
    registry = running.worker.routes[0].pipeline.metrics.registry
    found = {
        number: registry.get_sample_value(
            f"broker_bridge_{gauge}", {"route": GROUP, "topic": TOPIC, "partition": str(number)}
        )
        for number in range(4)
    }
    return {number: value for number, value in found.items() if value is not None}


def shown(running: RunningWorker, tp: TopicPartition) -> Any:
    """The lag of a partition on ``/routes``."""
    details: Any = running.worker.details()[GROUP]
    return details["partitions"][f"{tp.topic}/{tp.partition}"]["lag"]


def test_lag_grows_while_a_message_holds_its_partition_and_falls_when_it_is_settled() -> None:
    goes_on = asyncio.Event()

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        if message.value["order_id"] == "o-0001":
            await goes_on.wait()

    async def scenario() -> None:
        async with InMemoryBridge(
            shop(handle, target={"kind": "python", "handler": "embedded:handler", "timeout": "10m"})
        ) as world:
            (running,) = world.workers.values()
            await place(world, 1, 2, 3, customer="held")
            await asyncio.sleep(A_LOOK_S)
            (held,) = {TopicPartition(r.topic, r.partition) for r in world.records(TOPIC)}
            assert lags(running)[held.partition] == 3
            assert lags(running, gauge="watermark_lag")[held.partition] == 3
            assert sum(lags(running).values()) == 3
            assert shown(running, held) == 3
            goes_on.set()
            await world.settled()
            await asyncio.sleep(A_LOOK_S)
            assert lags(running) == dict.fromkeys(range(4), 0)
            assert shown(running, held) == 0

    run_virtual(scenario())


def test_lag_counts_from_what_an_earlier_worker_committed() -> None:
    async def handle(_: Message[dict[str, Any]], __: Context) -> None:
        return None

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle)) as world:
            await place(world, *range(8))
            await world.settled()
            await world.stop_worker()
            again = world.start_worker()
            await asyncio.sleep(1)
            assert lags(again) == dict.fromkeys(range(4), 0)

    run_virtual(scenario())


def test_partitions_that_are_given_up_are_told_of_no_more_and_kafka_away_changes_nothing() -> None:
    async def handle(_: Message[dict[str, Any]], __: Context) -> None:
        return None

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle)) as world:
            (first,) = world.workers.values()
            await asyncio.sleep(A_LOOK_S)
            assert len(lags(first)) == 4
            world.log.available = False
            await asyncio.sleep(2 * A_LOOK_S)
            assert len(lags(first)) == 4
            world.log.available = True
            second = world.start_worker("worker-2")
            await asyncio.sleep(A_LOOK_S)
            assert sorted([*lags(first), *lags(second)]) == [0, 1, 2, 3]
            assert len(lags(first)) == 2
            await world.stop_worker("worker-2")
            await asyncio.sleep(A_LOOK_S)
            assert (len(lags(first)), lags(second)) == (4, {})

    run_virtual(scenario())
