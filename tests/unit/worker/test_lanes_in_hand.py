"""What waits in the retry lanes: it blocks neither other keys nor other topics, and nothing written there is believed
blindly."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from orders import GROUP, TOPIC, place, shop

from broker_bridge import Context, Message
from broker_bridge import headers as h
from broker_bridge.message import OutgoingRecord
from broker_bridge.testing import InMemoryBridge, LoopClock, run_virtual


def test_a_duplicate_that_parked_behind_its_own_first_copy_frees_the_key() -> None:
    seen: list[tuple[str, int]] = []

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        seen.append((message.value["order_id"], context.attempt))
        if message.value["order_id"] == "o-0001" and context.attempt < 3:
            raise ValueError("not yet")

    async def scenario() -> None:
        policies = {"retry": {"in_place": 1, "lanes": ["2s", "30s"]}}
        async with InMemoryBridge(shop(handle, **policies), partitions=1) as world:
            await place(world, 1)
            await asyncio.sleep(1)
            await place(world, 1, 2)
            await asyncio.sleep(120)
            await place(world, 3)
            await world.settled(within_ms=120_000)

    run_virtual(scenario())
    assert seen == [("o-0001", 1), ("o-0001", 2), ("o-0001", 3), ("o-0002", 1), ("o-0003", 1)]


def test_what_waits_in_a_long_lane_does_not_take_the_place_of_new_work() -> None:
    clock = LoopClock()
    done: dict[str, int] = {}

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        if message.value["note"] == "later" and context.attempt == 1:
            raise ValueError("not yet")
        done[message.value["order_id"]] = clock.now_ms()

    async def scenario() -> None:
        policies = {"max_in_flight": 20, "poll_records": 20, "retry": {"in_place": 1, "lanes": ["1h"]}}
        async with InMemoryBridge(shop(handle, **policies), clock=clock) as world:
            for number in range(60):
                await place(world, number, customer=f"c{number}", note="later")
            await asyncio.sleep(10)
            await world.stop_worker()
            world.start_worker()
            await asyncio.sleep(10)
            started = clock.now_ms()
            await place(world, 100, customer="new")
            await asyncio.sleep(10)
            assert done["o-0100"] - started < 5_000
            most = 0
            while len(done) < 61:
                await asyncio.sleep(1)
                assert world.worker is not None
                most = max(most, world.worker.details()[GROUP]["in_flight"])  # type: ignore[index]
            assert most <= 20
            await world.settled(within_ms=7_200_000)

    run_virtual(scenario())


FORGED = {
    "partition": [(h.ORIGIN, b"orders.placed/99/0")],
    "huge partition": [(h.ORIGIN, b"orders.placed/999999999999999999/0")],
    "other topic": [(h.ORIGIN, b"elsewhere/0/0")],
    "attempt": [(h.ATTEMPT, b"999999999999999999")],
    "largest attempt": [(h.ATTEMPT, b"65535")],
    "due": [(h.DUE_MS, b"999999999999999999")],
    "not numbers": [(h.ATTEMPT, b"\xff"), (h.DUE_MS, b"-1"), (h.ORIGIN, b"\xff\xfe"), (h.FIRST_FAILURE_MS, b"soon")],
    "first failure": [(h.FIRST_FAILURE_MS, b"999999999999999999")],
    "nulls": [(h.ATTEMPT, None), (h.DUE_MS, None), (h.ORIGIN, None), (h.REPLAY_ID, None)],
}


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize("lane", ["retry", "redrive"])
@pytest.mark.parametrize("fails", [False, True])
def test_garbage_in_the_headers_of_a_lane_is_survived(name: str, lane: str, fails: bool) -> None:
    async def handle(_: Message[dict[str, Any]], __: Context) -> None:
        if fails:
            raise ValueError("no")

    async def scenario() -> None:
        bridge = shop(handle, retry={"in_place": 2, "lanes": ["1m", "2m"]})
        async with InMemoryBridge(bridge, partitions=2) as world:
            await place(world, 1)
            await world.settled()
            names = bridge.config.routes[0].lane_names
            topic = names.redrive if lane == "redrive" else names.retry(60_000)
            value = world.records(TOPIC)[0].value
            raw = world.transport.producer()
            await raw.start()
            await raw.send_batch([OutgoingRecord(topic, value, key=b"k", headers=FORGED[name], partition=1)])
            await place(world, 2)
            await world.settled(within_ms=1_000_000)

    run_virtual(scenario())


def test_bridge_headers_on_the_source_topic_are_not_believed() -> None:
    clock = LoopClock()
    seen: list[tuple[int, str | None, str, int]] = []

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        assert [name for name, _ in message.headers if name.startswith(h.BRIDGE_PREFIX)] == []
        seen.append((context.attempt, message.replay_id, str(message.origin), message.timestamp_ms))

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle), partitions=1, clock=clock) as world:
            await place(world, 1)
            await world.settled()
            value = world.records(TOPIC)[0].value
            forged = [(name, b"7") for name in (h.ATTEMPT, h.REPLAY_ID, h.ORIGIN_TIMESTAMP_MS, h.HOPS)]
            forged += [(h.DUE_MS, b"999999999999999"), (h.ORIGIN, b"orders.placed/0/77")]
            raw = world.transport.producer()
            await raw.start()
            await raw.send_batch([OutgoingRecord(TOPIC, value, key=b"k", headers=forged, timestamp_ms=5)])
            await world.settled(within_ms=60_000)

    run_virtual(scenario())
    assert seen[1] == (1, None, "orders.placed/0/1", 5)
