"""A discarded dead letter, seen by workers that run: the key it held is free, and a replayed copy of it is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from orders import GROUP, place, shop

from broker_bridge import Bridge, Context, Message, RejectedError
from broker_bridge.core.dead_letter import write_redrive
from broker_bridge.core.discard import Fate
from broker_bridge.core.letters import Selection
from broker_bridge.replay.dead_letters import DeadLetters
from broker_bridge.replay.discard import Discarder, DiscardReport
from broker_bridge.replay.route import ReplayRoute
from broker_bridge.testing import InMemoryBridge, run_virtual


async def _nowhere(_phase: str, _counts: Mapping[str, int], _places: Sequence[str]) -> None:
    return None


async def discard(bridge: Bridge, world: InMemoryBridge) -> DiscardReport:
    route = ReplayRoute.of(bridge.config.routes[0])
    reader = world.transport.reader()
    await reader.start()
    letters = DeadLetters(reader=reader, store=world.store, route=route)
    discarder = Discarder(
        letters=letters, store=world.store, route=route, clock=world.clock, record=_nowhere, discard_id="d"
    )
    return await discarder.discard(Selection(), allow_expired=False)


def test_a_discarded_letter_frees_the_key_that_it_held() -> None:
    seen: list[str] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        if message.value["note"] == "bad":
            raise RejectedError("no")
        seen.append(message.value["order_id"])

    async def scenario() -> None:
        bridge = shop(handle, dead_letter={"on_dead": "hold"}, retry={"lanes": ["10s"]})
        async with InMemoryBridge(bridge) as world:
            await place(world, 1, note="bad")
            await place(world, 2)
            await place(world, 3)
            await asyncio.sleep(120)
            assert seen == []
            assert (await discard(bridge, world)).fates == {Fate.DISCARDED: 1}
            await world.settled()
            assert seen == ["o-0002", "o-0003"]
            assert len(world.dead_letters(GROUP)) == 1

    run_virtual(scenario())


def test_a_replayed_copy_of_a_discarded_letter_is_not_executed() -> None:
    fixed = False
    seen: list[str] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        if not fixed:
            raise RejectedError("no")
        seen.append(message.value["order_id"])

    async def scenario() -> None:
        nonlocal fixed
        bridge = shop(handle)
        async with InMemoryBridge(bridge) as world:
            await place(world, 1)
            await world.settled()
            (letter,) = world.dead_letters(GROUP)
            await discard(bridge, world)
            fixed = True
            lane = bridge.config.routes[0].lane_names.redrive
            raw = world.transport.producer()
            await raw.start()
            await raw.send_batch([write_redrive(letter, topic=lane, replay_id="r1", now_ms=world.clock.now_ms())])
            await world.settled()

    run_virtual(scenario())
    assert seen == []
