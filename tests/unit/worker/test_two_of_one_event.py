"""Two deliveries of one event in one worker: when the first ends otherwise than settled, when they are no repeats after
all, and when the claim goes from one to the other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from orders import GROUP, ORDER, TOPIC, order, place, shop

from broker_bridge import Context, Message
from broker_bridge.core.claim import ClaimAnswer, ClaimRequest, Settlement, SettleStatus
from broker_bridge.errors import DeliveryTimeoutError, RecordTooLargeError, TransportError
from broker_bridge.idempotency.memory import MemoryStore
from broker_bridge.testing import InMemoryBridge, LoopClock, run_virtual

RESULTS = "payments.captured"
OUTPUT = {"topic": RESULTS, "subject": "shop.PaymentCaptured", "key": "order_id"}
AWAY = DeliveryTimeoutError("no answer")
TOO_LARGE = RecordTooLargeError("too large")


class SlowStore(MemoryStore):
    """Does at once what it is asked for, and says so late."""

    claims_s = 0.0
    settles_s = 0.0

    async def claim(self, group: str, requests: Sequence[ClaimRequest], *, lease_ms: int) -> list[ClaimAnswer]:
        answers = await super().claim(group, requests, lease_ms=lease_ms)
        await asyncio.sleep(self.claims_s)
        return answers

    async def settle(self, group: str, settlements: Sequence[Settlement], *, ttl_ms: int) -> list[SettleStatus]:
        answers = await super().settle(group, settlements, ttl_ms=ttl_ms)
        await asyncio.sleep(self.settles_s)
        return answers


async def again(world: InMemoryBridge, number: int, *, key: str) -> None:
    """The same event, payload and all, under a key of its own."""
    await world.producer.send(TOPIC, order(number), key=key, contract=ORDER, event_id=f"o-{number:04d}")


async def captured(message: Message[dict[str, Any]], _: Context) -> dict[str, Any]:
    return {
        "payment_id": "p-" + message.value["order_id"],
        "order_id": message.value["order_id"],
        "customer_id": message.value["customer_id"],
        "amount_cents": message.value["amount_cents"],
        "currency": message.value["currency"],
        "sequence": 1,
        "captured_at": 1_790_000_000_000,
    }


@pytest.mark.parametrize(("error", "times", "letters"), [(AWAY, 5, 0), (TOO_LARGE, 1, 1)])
def test_a_repeat_goes_on_at_once_where_the_result_of_its_original_is_not_taken(
    error: TransportError, times: int, letters: int
) -> None:
    """Nothing else is read that would wake who asks for claims."""

    async def scenario() -> None:
        bridge = shop(captured, output=OUTPUT)
        async with InMemoryBridge(bridge, partitions=1) as world:
            world.log.ack_after_ms[bridge.config.routes[0].lane_names.dead_letter] = 200
            world.log.fail_next_sends(times, error, topic=RESULTS)
            await place(world, 1, 1)
            await world.settled(within_ms=10_000)
            assert len(world.records(RESULTS)) == 1 - letters
            assert len(world.dead_letters(GROUP)) == letters

    run_virtual(scenario())


def test_another_payload_is_no_repeat_and_goes_to_the_dead_letters() -> None:
    """The first record cannot be read when the second is to be compared with it, and is answered, its claim not yet
    settled, when that one's turn comes again."""
    effects: list[str | None] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        effects.append(message.value["note"])

    async def scenario() -> None:
        store = SlowStore(LoopClock())
        async with InMemoryBridge(shop(handle), partitions=1, store=store) as world:
            await asyncio.sleep(1)
            store.claims_s = store.settles_s = 1.0
            await place(world, 1)
            await place(world, 1, note="changed")
            await asyncio.sleep(0.5)
            world.log.available = False
            await asyncio.sleep(3)
            world.log.available = True
            await world.settled()
            assert [letter.failure.code for letter in world.dead_letters(GROUP)] == ["key_conflict"]

    run_virtual(scenario())
    assert effects == [None]


def test_a_handler_is_told_when_the_claim_of_its_message_goes_to_another_delivery_here() -> None:
    """The store loses its claims (W3), and the event comes again on another key of the same worker."""
    told: list[bool] = []

    async def handle(_: Message[dict[str, Any]], context: Context) -> None:
        if not told:
            told.append(False)
            await asyncio.sleep(5)
            told.append(context.is_lost())

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle), partitions=1) as world:
            await place(world, 1)
            await asyncio.sleep(1)
            world.store.forget_all()
            await again(world, 1, key="elsewhere")
            await world.settled()

    run_virtual(scenario())
    assert told == [False, True]


def test_nothing_starts_under_a_claim_that_is_just_given_back() -> None:
    """o-0001 waits behind o-0000 and holds the claim; it comes again at the head of another lane, so its claim is given
    back; while the store takes its time for that, its own turn comes (I8)."""
    running: list[str] = []
    effects: list[str] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        number = message.value["order_id"]
        assert number not in running, "two at once"
        running.append(number)
        await asyncio.sleep(0.5 if number == "o-0000" else 5)
        running.remove(number)
        effects.append(number)

    async def scenario() -> None:
        store = SlowStore(LoopClock())
        store.settles_s = 1.0
        async with InMemoryBridge(shop(handle), partitions=1, store=store) as world:
            await again(world, 0, key="busy")
            await again(world, 1, key="busy")
            await again(world, 1, key="idle")
            await world.settled()
            assert world.dead_letters(GROUP) == []

    run_virtual(scenario())
    assert effects == ["o-0000", "o-0001"]


def test_a_message_that_waited_starts_when_it_is_due() -> None:
    """Not at the next look 20 ms later, because one part of a millisecond was rounded up and the other down."""
    tries: dict[str, list[float]] = {}

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        began = asyncio.get_running_loop().time()
        tries.setdefault(message.value["order_id"], []).append(began)
        if len(tries[message.value["order_id"]]) == 1:
            await asyncio.sleep(0.0007)
            raise ValueError("not yet")

    async def scenario() -> None:
        retry = {"in_place": 2, "base": "100ms", "max": "100ms", "jitter": 0.0}
        async with InMemoryBridge(shop(handle, retry=retry)) as world:
            for number in range(20):
                await place(world, number, customer=f"c{number}")
                await world.settled()

    run_virtual(scenario())
    waits_ms = [(second - first) * 1000 for first, second in tries.values()]
    assert len(waits_ms) == 20
    assert max(waits_ms) < 110
