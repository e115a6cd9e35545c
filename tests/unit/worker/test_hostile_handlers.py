"""Handlers that do what no handler should: the worker keeps its slots, its partitions and its way out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from orders import GROUP, TOPIC, place, shop, target_within

from broker_bridge import Context, Message
from broker_bridge.errors import TargetUnavailableError
from broker_bridge.message import OutgoingRecord
from broker_bridge.testing import InMemoryBridge, LoopClock, run_virtual


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(3), BaseException("odd")])
def test_what_a_handler_raises_is_a_failed_attempt_whatever_its_kind(error: BaseException) -> None:
    seen: list[str] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        if message.value["customer_id"] == "bad":
            raise error
        seen.append(message.value["order_id"])

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, concurrency=2, retry={"in_place": 2}), partitions=1) as world:
            await place(world, 1, 2, 3, customer="bad")
            await place(world, *range(10, 20))
            await world.settled()
            assert [letter.failure.code for letter in world.dead_letters(GROUP)] == ["handler_failed"] * 3
            assert {letter.failure.target_code.split(".")[-1] for letter in world.dead_letters(GROUP)} == {
                type(error).__name__
            }

    run_virtual(scenario())
    assert seen == [f"o-{n:04d}" for n in range(10, 20)]


def test_a_handler_that_awaits_a_cancelled_future_costs_no_slot() -> None:
    seen: list[int] = []

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        if context.attempt == 1:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        seen.append(context.attempt)

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, concurrency=1)) as world:
            await place(world, 1, 2, 3)
            await world.settled()

    run_virtual(scenario())
    assert seen == [2, 2, 2]


def test_a_handler_that_swallows_its_cancellation_does_not_keep_the_worker_alive() -> None:
    async def handle(_: Message[dict[str, Any]], __: Context) -> None:
        try:
            await asyncio.sleep(86_400)
        except asyncio.CancelledError:
            return

    async def scenario() -> None:
        policies = {"shutdown": {"drain": "1s"}, "target": target_within("1h"), "claims": {"lease": "2h"}}
        async with InMemoryBridge(shop(handle, **policies)) as world:
            await place(world, 1)
            await asyncio.sleep(1)
            async with asyncio.timeout(60):
                await world.stop_worker()
            assert sum(world.log.committed.get(GROUP, {}).values()) == 0, "not known to be done, so read again"

    run_virtual(scenario())


def test_a_retried_handler_gets_the_message_as_it_was() -> None:
    seen: list[int] = []

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        seen.append(message.value.pop("amount_cents"))
        if context.attempt < 3:
            raise ValueError("not yet")

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, retry={"in_place": 3})) as world:
            await place(world, 1)
            await world.settled()
            assert world.dead_letters(GROUP) == []

    run_virtual(scenario())
    assert seen == [101, 101, 101]


def test_an_answer_that_cannot_be_encoded_is_dead_lettered() -> None:
    async def handle(message: Message[dict[str, Any]], _: Context) -> dict[str, Any]:
        return {
            "payment_id": "p",
            "order_id": "\ud800",
            "customer_id": "c",
            "amount_cents": 1,
            "currency": "EUR",
            "sequence": 1,
            "captured_at": 1_790_000_000_000,
        }

    output = {"topic": "payments.captured", "subject": "shop.PaymentCaptured", "key": "order_id"}

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, output=output)) as world:
            await place(world, 1)
            await world.settled()
            assert [letter.failure.code for letter in world.dead_letters(GROUP)] == ["output_invalid"]

    run_virtual(scenario())


def test_a_time_out_inside_the_handler_is_not_reported_as_ours() -> None:
    async def handle(_: Message[dict[str, Any]], __: Context) -> None:
        raise TimeoutError("the database did not answer")

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, retry={"in_place": 1}, dead_letter={"message": True})) as world:
            await place(world, 1)
            await world.settled()
            (letter,) = world.dead_letters(GROUP)
            assert letter.failure.code == "target_timeout"
            assert "the database did not answer" in letter.failure.message

    run_virtual(scenario())


def test_bytes_that_do_not_decode_say_nothing_of_the_target() -> None:
    clock = LoopClock()
    calls: list[int] = []
    back_at_ms = 0

    async def handle(_: Message[dict[str, Any]], __: Context) -> None:
        calls.append(clock.now_ms())
        if clock.now_ms() < back_at_ms:
            raise TargetUnavailableError("connection refused")

    async def scenario() -> None:
        nonlocal back_at_ms
        back_at_ms = clock.now_ms() + 600_000
        policies = {"breaker": {"open": "30s", "max_open": "30s"}, "retry": {"in_place": 20}, "concurrency": 1}
        async with InMemoryBridge(shop(handle, **policies), partitions=1) as world:
            raw = world.transport.producer()
            await raw.start()
            await world.stop_worker()
            for number in range(100):
                await place(world, number, customer=f"c{number}")
                await raw.send_batch([OutgoingRecord(TOPIC, b"not avro", key=b"x%d" % number)])
            world.start_worker()
            await world.settled(within_ms=4_000_000)

    run_virtual(scenario())
    during = [at for at in calls if at < back_at_ms]
    assert len(during) < 40, "a message that was never handed over must not close the breaker"
