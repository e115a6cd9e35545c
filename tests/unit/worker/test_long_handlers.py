"""Handlers that take minutes: they keep their lease and their membership, and can see when they have lost either."""

from __future__ import annotations

import asyncio
from typing import Any

from orders import place, shop

from broker_bridge import Context, Message
from broker_bridge.testing import InMemoryBridge, LoopClock, run_virtual

LONG = {"claims": {"lease": "5s"}}


def long_shop(handle: Any) -> Any:
    """A route whose handlers may take an hour, on leases of five seconds."""
    bridge = shop(handle, **LONG)
    (route,) = bridge.config.routes
    target = route.target.model_copy(update={"timeout_ms": 3_600_000})
    bridge.config = bridge.config.model_copy(update={"routes": [route.model_copy(update={"target": target})]})
    return bridge


def test_a_handler_of_minutes_keeps_its_lease_while_another_worker_asks_for_its_message() -> None:
    runs: list[tuple[int, bool]] = []
    clock = LoopClock()

    async def handle(_: Message[dict[str, Any]], context: Context) -> None:
        assert context.deadline_ms - clock.now_ms() == 3_600_000
        await asyncio.sleep(600)
        runs.append((context.crashes, context.lost))

    async def scenario() -> None:
        async with InMemoryBridge(long_shop(handle)) as world:
            await place(world, 1)
            await asyncio.sleep(60)
            await place(world, 1)  # the same event again: its claim is held all the time
            await world.settled(within_ms=3_600_000)

    run_virtual(scenario())
    assert runs == [(0, False)]


def test_a_long_handler_sees_that_its_partition_was_taken_and_is_not_run_twice_meanwhile() -> None:
    seen: list[tuple[int, bool]] = []

    async def handle(_: Message[dict[str, Any]], context: Context) -> None:
        for _second in range(600):
            await asyncio.sleep(1)
            if context.lost:
                seen.append((context.crashes, True))
                return
        seen.append((context.crashes, False))

    async def scenario() -> None:
        async with InMemoryBridge(long_shop(handle), partitions=1) as world:
            await place(world, 1)
            await asyncio.sleep(60)
            (first,) = world.workers.values()
            await first.evict()
            await world.settled(within_ms=3_600_000)

    run_virtual(scenario())
    assert seen == [(0, True)]
