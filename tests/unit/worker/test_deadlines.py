"""An event that says until when it makes sense: begun in time or not at all, never silently dropped."""

from __future__ import annotations

import asyncio
from typing import Any

from orders import GROUP, ORDER, TOPIC, order, place, shop

from broker_bridge import Context, Message
from broker_bridge.core.dead_letter import write_redrive
from broker_bridge.testing import InMemoryBridge, run_virtual


async def place_until(world: InMemoryBridge, number: int, *, within_ms: int) -> None:
    """Produce an order that makes sense so long."""
    await world.producer.send(
        TOPIC,
        order(number),
        key="c1",
        contract=ORDER,
        event_id=f"o-{number:04d}",
        deadline_ms=world.clock.now_ms() + within_ms,
    )


def test_what_comes_to_its_turn_too_late_is_dead_lettered_and_what_is_in_time_is_not() -> None:
    runs: list[str] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        runs.append(message.value["order_id"])
        await asyncio.sleep(5)

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle)) as world:
            await place(world, 1)
            await place_until(world, 2, within_ms=3_000)  # waits behind the first for longer
            await place_until(world, 3, within_ms=60_000)
            await world.settled()
            (letter,) = world.dead_letters(GROUP)
            assert (letter.failure.code, letter.origin.offset) == ("deadline_passed", 1)

    run_virtual(scenario())
    assert runs == ["o-0001", "o-0003"]


def test_a_retry_that_would_come_too_late_is_not_made() -> None:
    runs: list[int] = []

    async def handle(_: Message[dict[str, Any]], context: Context) -> None:
        runs.append(context.attempt)
        raise ValueError("not yet")

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, retry={"in_place": 1, "lanes": ["1m", "2m"]})) as world:
            await place_until(world, 1, within_ms=30_000)
            await world.settled()
            assert [letter.failure.code for letter in world.dead_letters(GROUP)] == ["deadline_passed"]

    run_virtual(scenario())
    assert runs == [1]


def test_a_replay_does_not_look_at_the_deadline() -> None:
    runs: list[str | None] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        runs.append(message.replay_id)

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle)) as world:
            await place_until(world, 1, within_ms=-1)
            await world.settled()
            (letter,) = world.dead_letters(GROUP)
            raw = world.transport.producer()
            await raw.start()
            redrive = f"{GROUP}.{TOPIC}.redrive"
            now_ms = world.clock.now_ms()
            await raw.send_batch([write_redrive(letter, topic=redrive, replay_id="r-1", now_ms=now_ms)])
            await asyncio.sleep(1)
            await world.settled()

    run_virtual(scenario())
    assert runs == ["r-1"]
