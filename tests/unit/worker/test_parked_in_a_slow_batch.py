"""Who holds a key back is known before its copy is written: the copy may be done with before the rest of its batch is
acknowledged, and whoever was parked only then would hold its key for ever (I21)."""

from __future__ import annotations

import asyncio
from typing import Any

from orders import GROUP, ORDER, TOPIC, order, place, shop

from broker_bridge import Context, Event, Message
from broker_bridge.core.lanes import LaneNames
from broker_bridge.testing import InMemoryBridge, LoopClock, run_virtual


def event(number: int, customer: str) -> Event:
    name = f"o-{number:04d}"
    return Event(topic=TOPIC, value=order(number, customer), contract=ORDER, key=customer, event_id=name)


def test_a_duplicate_that_is_dropped_before_its_batch_is_acknowledged_frees_its_key() -> None:
    """::

    1    done ─── comes again: parks behind 2 ┐ one batch: written ─── due: dropped ─── acknowledged
    11                  12 parks behind 11    ┘            nobody leads that lane ────── acknowledged
    3    of the key of 1 and 2                                                                        runs
    """
    clock = LoopClock()
    done: list[str] = []
    started_ms: list[int] = []

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        if context.attempt < {"o-0002": 2, "o-0011": 3}.get(message.value["order_id"], 1):
            raise ValueError("not yet")
        done.append(message.value["order_id"])
        started_ms.append(clock.now_ms())

    async def scenario() -> int:
        policies = {"retry": {"in_place": 1, "lanes": ["2s", "1h"]}}
        long_lane = LaneNames(GROUP, TOPIC).retry(3_600_000)
        async with InMemoryBridge(shop(handle, **policies), partitions=1, clock=clock) as world:
            await place(world, 1, customer="a")
            await place(world, 11, customer="b")
            await asyncio.sleep(5)
            await place(world, 2, customer="a")
            await asyncio.sleep(1)
            world.log.ack_after_ms[long_lane] = 10_000
            await world.producer.send_batch([event(1, "a"), event(12, "b")])
            await asyncio.sleep(15)
            sent_ms = clock.now_ms()
            await place(world, 3, customer="a")
            await world.settled(within_ms=10_000_000)
            return sent_ms

    sent_ms = run_virtual(scenario())
    assert done == ["o-0001", "o-0002", "o-0003", "o-0011", "o-0012"]
    assert started_ms[2] - sent_ms < 1_000, "nobody is ahead of it"
