"""Foreign bytes under one claim's key are the end of that message only, and of no other's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from orders import GROUP, TOPIC, place, shop

from broker_bridge import Context, Message, RejectedError
from broker_bridge.core.claim import ClaimAnswer, ClaimRequest, ClaimView
from broker_bridge.core.identity import claim_key
from broker_bridge.errors import ClaimUnreadableError
from broker_bridge.headers import identify
from broker_bridge.idempotency.memory import MemoryStore
from broker_bridge.testing import InMemoryBridge, LoopClock, run_virtual


class OneIsForeign(MemoryStore):
    """Refuses a batch as Redis does that holds something else under one key: whole, and naming the key."""

    foreign = b""

    async def claim(self, group: str, requests: Sequence[ClaimRequest], *, lease_ms: int) -> list[ClaimAnswer]:
        if any(request.key == self.foreign for request in requests):
            raise ClaimUnreadableError("a list", claim_key=self.foreign)
        return await super().claim(group, requests, lease_ms=lease_ms)

    async def inspect(self, group: str, keys: Sequence[bytes]) -> list[ClaimView | None]:
        if self.foreign in keys:
            raise ClaimUnreadableError("a list", claim_key=self.foreign)
        return await super().inspect(group, keys)


def test_the_message_of_an_unreadable_claim_is_dead_lettered_and_all_others_go_on() -> None:
    runs: list[str] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        runs.append(message.value["order_id"])

    async def scenario() -> None:
        clock = LoopClock()
        store = OneIsForeign(clock)
        async with InMemoryBridge(shop(handle), partitions=1, store=store, clock=clock) as world:
            await world.stop_worker()
            await place(world, 1, 2, 3)
            await place(world, 4, customer="c2")
            second = world.records(TOPIC)[1]
            identity = identify(second, trusted=False)
            store.foreign = claim_key(identity.idempotency_key, namespace=TOPIC)
            world.start_worker()
            await world.settled()
            (letter,) = world.dead_letters(GROUP)
            assert (letter.failure.code, letter.origin) == ("claim_unreadable", second.position)

    run_virtual(scenario())
    assert sorted(runs) == ["o-0001", "o-0003", "o-0004"]


def test_an_unreadable_epoch_is_nobodys_and_the_route_waits() -> None:
    runs: list[str] = []

    class NoEpoch(MemoryStore):
        broken = True

        async def claim(self, group: str, requests: Sequence[ClaimRequest], *, lease_ms: int) -> list[ClaimAnswer]:
            if self.broken:
                raise ClaimUnreadableError("a list", claim_key=b"epoch")
            return await super().claim(group, requests, lease_ms=lease_ms)

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        runs.append(message.value["order_id"])

    async def scenario() -> None:
        clock = LoopClock()
        store = NoEpoch(clock)
        async with InMemoryBridge(shop(handle), store=store, clock=clock) as world:
            await place(world, 1)
            await asyncio.sleep(60)
            assert runs == []
            store.broken = False
            await world.settled()
            assert world.dead_letters(GROUP) == []

    run_virtual(scenario())
    assert runs == ["o-0001"]


def test_a_dead_letter_whose_claim_became_unreadable_goes_on_holding_its_key_and_stops_nobody_else() -> None:
    runs: list[str] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        if message.value["note"] == "bad":
            raise RejectedError("no")
        runs.append(message.value["order_id"])

    async def scenario() -> None:
        clock = LoopClock()
        store = OneIsForeign(clock)
        bridge = shop(handle, dead_letter={"on_dead": "hold"}, retry={"lanes": ["10s"]})
        async with InMemoryBridge(bridge, partitions=1, store=store, clock=clock) as world:
            await place(world, 1, note="bad")
            await asyncio.sleep(1)
            identity = identify(world.records(TOPIC)[0], trusted=False)
            store.foreign = claim_key(identity.idempotency_key, namespace=TOPIC)
            await place(world, 2)
            await asyncio.sleep(60)
            await place(world, 3, customer="other")
            await asyncio.sleep(60)
            assert runs == ["o-0003"]
            store.foreign = b""
            await asyncio.sleep(60)
            assert runs == ["o-0003"], "still dead"

    run_virtual(scenario())
