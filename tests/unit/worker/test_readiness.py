"""Ready means: takes part in the work. Waiting is part of it, not having joined is not, nor having stopped for good."""

from __future__ import annotations

import asyncio
from typing import Any

from orders import GROUP, place, shop, target_within

from broker_bridge import Context, Message, RejectedError
from broker_bridge.testing import InMemoryBridge, run_virtual
from broker_bridge.testing.in_memory import RunningWorker


def answer(running: RunningWorker) -> tuple[bool, str]:
    """What ``/health/ready`` says."""
    report = running.worker.ready()
    return report.ok, report.checks[GROUP]


def test_a_worker_is_ready_once_it_has_joined_also_without_a_partition_of_its_own() -> None:
    async def handle(_: Message[dict[str, Any]], __: Context) -> None:
        await asyncio.sleep(5)

    async def scenario() -> None:
        policies = {"shutdown": {"drain": "10s"}, "target": target_within("20s")}
        async with InMemoryBridge(shop(handle, **policies), partitions=2) as world:
            (first,) = world.workers.values()
            assert answer(first) == (False, "joining")
            await place(world, 1)
            await asyncio.sleep(1)
            assert answer(first) == (True, "delivering")
            second = world.start_worker("worker-2")
            await asyncio.sleep(1)
            assert answer(second) == (False, "joining"), "the first still ends what it has in hand"
            await asyncio.sleep(5)
            assert answer(second) == (True, "delivering")
            third = world.start_worker("worker-3")
            await asyncio.sleep(1)
            assert sorted(answer(running) for running in (first, second, third)) == [
                (True, "delivering"),
                (True, "delivering"),
                (True, "standing by"),
            ]
            third.worker.stop()
            assert not answer(third)[0], "it drains"

    run_virtual(scenario())


def test_a_route_that_waits_for_redis_is_ready_and_says_what_for() -> None:
    async def handle(_: Message[dict[str, Any]], __: Context) -> None:
        return None

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle)) as world:
            (running,) = world.workers.values()
            await asyncio.sleep(0.1)
            world.store.available = False
            await place(world, 1)
            await asyncio.sleep(1)
            assert answer(running) == (True, "paused: redis_down")
            world.store.available = True
            await world.settled()
            assert answer(running) == (True, "delivering")

    run_virtual(scenario())


def test_a_route_that_its_dead_letters_stopped_is_not_ready() -> None:
    async def handle(_: Message[dict[str, Any]], __: Context) -> None:
        raise RejectedError("no")

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, dead_letter={"limit": 2})) as world:
            (running,) = world.workers.values()
            for number in range(2):
                await place(world, number, customer=f"c{number}")
            await world.settled()
            assert answer(running)[0]
            for number in range(2, 5):
                await place(world, number, customer=f"c{number}")
            await asyncio.sleep(1)
            assert answer(running) == (False, "paused: dead_letter_limit")
            assert running.worker.live().ok, "a restart is a decision for somebody who has looked"

    run_virtual(scenario())
