"""Handlers that block the event loop: what else a worker has to do gets its turn between a few of them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from orders import place, shop

from broker_bridge import Context, Message
from broker_bridge.testing import InMemoryBridge

MESSAGES, BLOCKED_S = 24, 0.03


def test_others_have_the_loop_between_a_few_messages_that_block_it() -> None:
    turns = 0
    seen: list[int] = []

    async def handle(_: Message[dict[str, Any]], __: Context) -> None:
        time.sleep(BLOCKED_S)  # noqa: ASYNC251 - as a database driver would that is not made for asyncio
        seen.append(turns)

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, concurrency=1), partitions=1) as world:
            await world.stop_worker()
            for number in range(MESSAGES):
                await place(world, number, customer=f"c{number}")
            others = asyncio.create_task(take_turns())
            try:
                world.start_worker()
                await world.settled(within_ms=30_000)
            finally:
                others.cancel()

    asyncio.run(scenario())
    assert len(seen) == MESSAGES
    assert len(set(seen)) > MESSAGES // 6, "a turn every few messages, not after all of them"
