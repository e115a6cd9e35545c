"""Whose fault a failure is: no message dies of an outage, however little goes on, and none that fails by itself lives
for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from orders import GROUP, place, shop

from broker_bridge import Context, Message
from broker_bridge.errors import BridgeError, RejectedError, TargetUnavailableError, TargetUnreachableError
from broker_bridge.testing import InMemoryBridge, LoopClock, run_virtual

HOUR_MS = 3_600_000


def test_no_message_dies_of_a_target_that_cannot_be_reached_and_none_spends_an_attempt() -> None:
    """One key alone: no number of keys could show the outage."""
    clock = LoopClock()
    done: list[str] = []
    until_ms = 0

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        if clock.now_ms() < until_ms:
            raise TargetUnreachableError("connection refused")
        if message.value["order_id"] == "o-0001" and "o-0001!" not in done:
            done.append("o-0001!")
            raise ValueError("its only attempt but one")
        done.append(message.value["order_id"])

    async def scenario() -> None:
        nonlocal until_ms
        until_ms = clock.now_ms() + 6 * HOUR_MS
        async with InMemoryBridge(shop(handle, retry={"in_place": 2}), clock=clock) as world:
            await place(world, 1, 2)
            await world.settled(within_ms=7 * HOUR_MS)
            assert world.dead_letters(GROUP) == []

    run_virtual(scenario())
    assert done == ["o-0001!", "o-0001", "o-0002"], "every attempt was left when the target was back"


@pytest.mark.parametrize("keys", [1, 2])
def test_a_short_outage_of_a_quiet_route_kills_nothing(keys: int) -> None:
    """Too few keys for the breaker; each message had all its attempts in the outage."""
    clock = LoopClock()
    done: list[str] = []
    until_ms = 0

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        if clock.now_ms() < until_ms:
            raise TargetUnavailableError("500 for everybody", target_code="http_500")
        done.append(message.value["order_id"])

    async def scenario() -> None:
        nonlocal until_ms
        until_ms = clock.now_ms() + 120_000
        async with InMemoryBridge(shop(handle, retry={"in_place": 2}), clock=clock) as world:
            for number in range(6):
                await place(world, number, customer=f"c{number % keys}")
                await asyncio.sleep(10)
            await world.settled()
            assert world.dead_letters(GROUP) == []

    run_virtual(scenario())
    assert sorted(done) == [f"o-{number:04d}" for number in range(6)]


def test_what_was_on_its_last_attempt_when_the_outage_began_does_not_die_of_it() -> None:
    """::

    1     fails by itself ─── lane of 10 s ─── last attempt: 500 ──────────── held, not dead ─── done
    11 …  done, done, done, done, done, done ┘ outage: 500, 500 … breaker opens ───── closes ┘
    """
    clock = LoopClock()
    done: list[str] = []
    down_ms = (0, 0)

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        if down_ms[0] < clock.now_ms() < down_ms[1]:
            raise TargetUnavailableError("500 for everybody", target_code="http_500")
        if message.value["order_id"] == "o-0001" and context.attempt == 1:
            raise ValueError("its own fault")
        done.append(message.value["order_id"])

    async def scenario() -> None:
        nonlocal down_ms
        down_ms = clock.now_ms() + 9_000, clock.now_ms() + 60_000
        async with InMemoryBridge(shop(handle, retry={"in_place": 1, "lanes": ["10s"]}), clock=clock) as world:
            await place(world, 1, customer="late")
            for number in range(11, 60):
                await asyncio.sleep(0.4)
                await place(world, number, customer=f"c{number}")
            await world.settled()
            assert world.dead_letters(GROUP) == []

    run_virtual(scenario())
    assert "o-0001" in done
    assert len(done) == 50


@pytest.mark.parametrize("before_asking", [RejectedError("no such customer"), ValueError("a bug")])
def test_a_probe_that_fails_before_it_asks_the_target_does_not_close_the_breaker(before_asking: Exception) -> None:
    """A refusal or an exception may come of what a handler does by itself: it says nothing of the target."""
    clock = LoopClock()
    calls: list[str] = []
    back_ms = 0

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        if message.value["customer_id"].startswith("bad"):
            raise before_asking
        calls.append(message.value["order_id"])
        if clock.now_ms() < back_ms:
            raise TargetUnavailableError("500 for everybody", target_code="http_500")

    async def scenario() -> None:
        nonlocal back_ms
        back_ms = clock.now_ms() + 300_000
        policies = {"retry": {"in_place": 3}, "breaker": {"open": "30s", "max_open": "30s"}}
        async with InMemoryBridge(shop(handle, **policies), clock=clock) as world:
            for number in range(60):
                kind = "bad" if number % 2 else "c"
                await place(world, number, customer=f"{kind}{number}")
            await world.settled(within_ms=HOUR_MS)
            dead = {letter.failure.code for letter in world.dead_letters(GROUP)}
            assert "target_unavailable" not in dead

    run_virtual(scenario())
    assert len(calls) < 30 + 40, "while it is away it is hardly asked"


def test_a_message_that_fails_by_itself_on_a_quiet_route_is_set_aside_in_the_end() -> None:
    tries: list[int] = []

    async def handle(_: Message[dict[str, Any]], context: Context) -> None:
        tries.append(context.attempt)
        raise TargetUnavailableError("500 for this one", target_code="http_500")

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, retry={"in_place": 2})) as world:
            await place(world, 1)
            await world.settled()
            (letter,) = world.dead_letters(GROUP)
            assert letter.failure.attempts == 2

    run_virtual(scenario())
    assert len(tries) == 2 + 50, "tried again and again, for as long as nothing else told whose fault it is"


def test_a_handler_may_say_that_it_reached_nobody() -> None:
    error: BridgeError = TargetUnreachableError("connection refused")
    assert (error.retriable, error.code) == (True, "target_unreachable")
