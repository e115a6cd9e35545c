"""What a route does about its dead letters: too many stop it, and one may hold its key until it was replayed."""

from __future__ import annotations

import asyncio
from typing import Any

from orders import GROUP, place, shop

from broker_bridge import Context, Message, RejectedError
from broker_bridge.core.dead_letter import write_redrive
from broker_bridge.testing import InMemoryBridge, run_virtual


def test_too_many_dead_letters_stop_the_route_and_a_restart_goes_on_without_loss() -> None:
    healthy = False
    applied: list[str] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        if not healthy:
            raise RejectedError("a bad deploy refuses everything", target_code="bad_deploy")
        applied.append(message.value["order_id"])

    async def scenario() -> None:
        nonlocal healthy
        policies = {"dead_letter": {"limit": 5, "limit_window": "1m"}}
        async with InMemoryBridge(shop(handle, **policies)) as world:
            for number in range(40):
                await place(world, number, customer=f"c{number}")
            await asyncio.sleep(3_600)
            assert len(world.dead_letters(GROUP)) == 5
            (running,) = world.workers.values()
            assert "dead_letter_limit" in running.worker.ready().checks[GROUP]
            await running.stop()
            healthy = True
            world.start_worker()
            await world.settled()
            assert len(world.dead_letters(GROUP)) == 5

    run_virtual(scenario())
    assert len(applied) == 35


def test_a_dead_letter_that_holds_its_key_keeps_later_ones_waiting_until_it_was_replayed() -> None:
    seen: list[str] = []
    fixed = False

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        if message.value["note"] == "bad" and not fixed:
            raise RejectedError("no")
        seen.append(message.value["order_id"])

    async def scenario() -> None:
        nonlocal fixed
        bridge = shop(handle, dead_letter={"on_dead": "hold"}, retry={"lanes": ["10s"]})
        async with InMemoryBridge(bridge) as world:
            await place(world, 1, note="bad")
            await place(world, 2)
            await place(world, 9, customer="other")
            await asyncio.sleep(120)
            assert seen == ["o-0009"]
            (running,) = world.workers.values()
            await running.crash()
            world.start_worker()
            await place(world, 3)
            await asyncio.sleep(300)
            assert seen == ["o-0009"], "the hold survives a crash"
            (letter,) = world.dead_letters(GROUP)
            fixed = True
            redrive = bridge.config.routes[0].lane_names.redrive
            raw = world.transport.producer()
            await raw.start()
            await raw.send_batch([write_redrive(letter, topic=redrive, replay_id="r1", now_ms=world.clock.now_ms())])
            await world.settled()

    run_virtual(scenario())
    assert seen == ["o-0009", "o-0001", "o-0002", "o-0003"]
