"""A long queue of one key drains with few copies: what falls due behind an earlier message of its key waits in hand
for it, as far as there is room, and no longer than it may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from orders import GROUP, TOPIC, order, place, shop

from broker_bridge import Context, Event, Message
from broker_bridge.core.lanes import LaneNames
from broker_bridge.testing import InMemoryBridge, LoopClock, run_virtual

QUEUE = 500
ONE_IN = 50
LANES = LaneNames(GROUP, TOPIC)
Seen = list[tuple[int, int]]


def events(numbers: range) -> list[Event]:
    return [
        Event(topic=TOPIC, value=order(n), contract="shop.OrderPlaced", key="hot", event_id=f"{n}") for n in numbers
    ]


def failing(seen: Seen, tries: Callable[[int], int]) -> Callable[[Message[dict[str, Any]], Context], Any]:
    """A handler for a message that succeeds at its ``tries(number)``-th try."""

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        number = int(message.value["order_id"].removeprefix("o-"))
        seen.append((number, context.attempt))
        if context.attempt < tries(number):
            raise ValueError("not yet")

    return handle


def drained(policies: dict[str, Any], *, queue: int, lanes: list[str]) -> tuple[Seen, int, int]:
    """What was tried, copies in ``lanes``, and the most that was ever in flight."""
    seen: Seen = []
    clock = LoopClock()
    most = 0

    async def scenario() -> int:
        nonlocal most
        handle = failing(seen, lambda number: 3 if number % ONE_IN == 0 else 1)
        async with InMemoryBridge(shop(handle, **policies), partitions=1, clock=clock) as world:
            await world.producer.send_batch(events(range(queue)))
            settling = asyncio.create_task(world.settled(within_ms=1_000_000))
            while not settling.done():
                assert world.worker is not None
                most = max(most, world.worker.details()[GROUP]["in_flight"])  # type: ignore[index]
                await asyncio.sleep(0.05)
            await settling
            return sum(len(world.records(lane)) for lane in lanes)

    return seen, run_virtual(scenario()), most


def ended_in_order(seen: Seen, queue: int) -> bool:
    last = [number for number, attempt in seen if attempt == (3 if number % ONE_IN == 0 else 1)]
    return last == list(range(queue))


def test_a_queue_of_one_key_is_copied_once_and_not_for_each_failure_again() -> None:
    """One in fifty fails at its first two tries: ten failures, each before up to 490 others."""
    policies = {"retry": {"in_place": 2, "lanes": ["2s"]}}
    seen, copies, _ = drained(policies, queue=QUEUE, lanes=[LANES.retry(2_000)])
    assert ended_in_order(seen, QUEUE)
    assert copies <= QUEUE + QUEUE // ONE_IN, "each once, and those that failed at most once more"


def test_also_where_the_second_failure_goes_to_another_lane() -> None:
    policies = {"retry": {"in_place": 1, "lanes": ["2s", "5s"]}}
    seen, copies, _ = drained(policies, queue=QUEUE, lanes=[LANES.retry(2_000), LANES.retry(5_000)])
    assert ended_in_order(seen, QUEUE)
    assert copies <= QUEUE + 2 * QUEUE // ONE_IN


@pytest.mark.parametrize("room", [1, 2, 20])
def test_a_queue_longer_than_there_is_room_for_drains_and_stays_within_its_limit(room: int) -> None:
    policies = {
        "max_in_flight": room,
        "concurrency": min(16, room),
        "poll_records": room,
        "retry": {"in_place": 2, "lanes": ["2s"]},
    }
    seen, _, most = drained(policies, queue=120, lanes=[])
    assert ended_in_order(seen, 120)
    assert most <= room


def test_a_queue_larger_than_its_bytes_drains() -> None:
    policies = {"max_in_flight_bytes": "4KiB", "poll_records": 1, "retry": {"in_place": 2, "lanes": ["2s"]}}
    seen, _, _ = drained(policies, queue=120, lanes=[])
    assert ended_in_order(seen, 120)


def test_behind_a_held_key_nobody_waits_in_hand_for_ever() -> None:
    """What is read of a lane is committed in the end: after two minutes each goes to the lane again."""
    seen: Seen = []

    async def scenario() -> tuple[int, int]:
        policies = {"retry": {"in_place": 1, "lanes": ["2s"]}, "dead_letter": {"on_dead": "hold"}}
        handle = failing(seen, lambda number: 1 if number else 99)
        async with InMemoryBridge(shop(handle, **policies), partitions=1) as world:
            await world.producer.send_batch(events(range(6)))
            await asyncio.sleep(610)
            assert world.worker is not None
            details = world.worker.details()[GROUP]["partitions"]  # type: ignore[index]
            copies = [int(record.key == b"hot") for record in world.records(LANES.retry(2_000))]
            return len(copies), details[f"{LANES.retry(2_000)}/0"]["committed"]

    copies, committed = run_virtual(scenario())
    markers = 610 // 2
    assert {number for number, _ in seen} == {0}
    assert markers < copies <= markers + 5 * (1 + 610 // 120) + 2
    assert copies - committed < 120, "no more than two minutes of the lane are read again after a crash"


@pytest.mark.parametrize("ending", ["stop_worker", "crash_worker"])
def test_what_waits_in_hand_is_given_back_and_read_again(ending: str) -> None:
    """The worker ends while the rest of the queue waits for a message that failed twice in the lanes."""
    seen: Seen = []
    clock = LoopClock()

    async def scenario() -> tuple[int, int]:
        policies = {"retry": {"in_place": 1, "lanes": ["2s", "50s"]}, "claims": {"lease": "30s"}}
        handle = failing(seen, lambda number: 1 if number else 3)
        async with InMemoryBridge(shop(handle, **policies), partitions=1, clock=clock) as world:
            await world.producer.send_batch(events(range(40)))
            await asyncio.sleep(10)
            assert world.worker is not None
            assert world.worker.details()[GROUP]["in_flight"] == 39  # type: ignore[index]
            began_ms = clock.now_ms()
            await getattr(world, ending)()
            took_ms = clock.now_ms() - began_ms
            world.start_worker()
            await world.settled(within_ms=200_000)
            return took_ms, sum(len(world.records(lane)) for lane in (LANES.retry(2_000), LANES.retry(50_000)))

    took_ms, copies = run_virtual(scenario())
    assert took_ms < 2_000, "nothing that only waits is waited for"
    assert [number for number, _ in seen] == [0, 0, *range(40)]
    assert copies == 41


def test_the_same_event_twice_in_a_queue_that_waits_is_handled_once() -> None:
    """The first of the two waits in hand with their claim; the second asks for it in front of the one they wait for."""
    seen: Seen = []
    clock = LoopClock()

    async def scenario() -> int:
        policies = {"retry": {"in_place": 1, "lanes": ["2s", "5s"]}}
        handle = failing(seen, lambda number: 1 if number else 3)
        async with InMemoryBridge(shop(handle, **policies), partitions=1, clock=clock) as world:
            await world.producer.send_batch([*events(range(2)), *events(range(1, 3)), *events(range(2, 4))])
            began_ms = clock.now_ms()
            await world.settled(within_ms=200_000)
            return clock.now_ms() - began_ms

    took_ms = run_virtual(scenario())
    assert seen == [(0, 1), (0, 2), (0, 3), (1, 1), (2, 1), (3, 1)]
    assert took_ms < 20_000


def test_a_copy_that_is_read_again_does_not_free_a_held_key() -> None:
    """Number 1 waits in hand, so that 2's copy behind it in the lane is not committed when the worker changes::

    lane   0's marker   1 (waits for 0)   2 (dies: marker)   2's marker          both of 2 are read again: its copy is
                        ▲ committed                                              done with, its marker holds the key
    """
    seen: Seen = []

    async def scenario() -> None:
        policies = {"retry": {"in_place": 1, "lanes": ["2s"]}, "dead_letter": {"on_dead": "hold"}}
        handle = failing(seen, lambda number: 99 if number in (0, 2) else 1)
        async with InMemoryBridge(shop(handle, **policies), partitions=1) as world:
            await place(world, 0, customer="a")
            await asyncio.sleep(2.5)
            await place(world, 1, customer="a")
            await asyncio.sleep(0.5)
            await place(world, 2, customer="b")
            await asyncio.sleep(3)
            assert len(world.dead_letters(GROUP)) == 2
            await world.stop_worker()
            world.start_worker()
            await asyncio.sleep(0.5)
            await place(world, 3, customer="b")
            await asyncio.sleep(300)

    run_virtual(scenario())
    assert seen == [(0, 1), (0, 2), (2, 1), (2, 2)]
