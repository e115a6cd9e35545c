"""The retry budget of a target at work: what is a further attempt waits for room, what is a first one never does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from orders import GROUP, place, shop

from broker_bridge import Bridge, Context, Message
from broker_bridge.config import config_from
from broker_bridge.core.dead_letter import write_redrive
from broker_bridge.errors import StoreError
from broker_bridge.idempotency.memory import MemoryStore
from broker_bridge.testing import InMemoryBridge, LoopClock, run_virtual
from broker_bridge.worker.slots import Slots

FLOOR = 2
ONE_SECOND = 0.2 * 25 + FLOOR
"""What the budget allows in a second of the streams below."""
WINDOW_MS = 10_000
NO_BREAKER = {"window": 10_000, "min_failures": 10_000}
RETRY = {"in_place": 3, "base": "10ms", "max": "20ms", "budget": 0.2, "budget_floor": FLOOR}


class Target:
    """Fails as told; notes when each attempt was made."""

    def __init__(self, fails: Callable[[str], bool]) -> None:
        self.clock = LoopClock()
        self.fails = fails
        self.first: list[int] = []
        self.again: list[int] = []
        self.late_ms = 0

    async def __call__(self, message: Message[dict[str, Any]], context: Context) -> None:
        now_ms = self.clock.now_ms()
        if context.attempt > 1 or message.replay_id:
            self.again.append(now_ms)
        else:
            self.first.append(now_ms)
            self.late_ms = max(self.late_ms, now_ms - message.timestamp_ms)
        await asyncio.sleep(0.005)
        if self.fails(message.value["order_id"]):
            raise ValueError("not this time")

    def most_over_budget(self) -> float:
        """How far the retries of any window went beyond the budget, the first windows left out: until they have heard
        of each other, each worker thinks it is alone."""

        def within(times: list[int], begins_ms: int) -> int:
            return sum(begins_ms < at_ms <= begins_ms + WINDOW_MS for at_ms in times)

        worst = 0.0
        for begins_ms in {at_ms - WINDOW_MS for at_ms in self.again if at_ms > self.first[0] + 2 * WINDOW_MS}:
            allowed = 0.2 * within(self.first, begins_ms) + FLOOR * WINDOW_MS / 1000
            worst = max(worst, within(self.again, begins_ms) - allowed)
        return worst


async def stream(world: InMemoryBridge, *, per_s: int, for_s: int) -> None:
    """Orders of ever new customers at a steady rate."""
    for number in range(per_s * for_s):
        await place(world, number, customer=f"c{number}")
        await asyncio.sleep(1 / per_s)


def bridge_to(target: Target, **retry: Any) -> Bridge:
    return shop(target, breaker=NO_BREAKER, retry={**RETRY, **retry}, concurrency=64, max_in_flight=5_000)


def denials(world: InMemoryBridge) -> float:
    found = [
        world_worker.worker.routes[0].pipeline.metrics.registry.get_sample_value(
            "broker_bridge_retry_budget_denied_total", {"route": GROUP}
        )
        for world_worker in world.workers.values()
    ]
    return sum(value or 0 for value in found)


def test_a_target_that_fails_now_and_then_is_retried_at_once() -> None:
    chance = random.Random(7)
    target = Target(lambda _: chance.random() < 0.1)

    async def scenario() -> None:
        async with InMemoryBridge(bridge_to(target)) as world:
            await stream(world, per_s=50, for_s=60)
            await world.settled()
            assert denials(world) == 0

    run_virtual(scenario())
    assert len(target.first) == 3_000
    assert 200 < len(target.again) <= 0.2 * len(target.first)


def failing_target(workers: int) -> Target:
    """A target that fails every order, for a while, served by so many workers."""
    target = Target(lambda _: True)

    async def scenario() -> None:
        async with InMemoryBridge(bridge_to(target, lanes=["1s"])) as world:
            for number in range(2, workers + 1):
                world.start_worker(f"worker-{number}")
            await stream(world, per_s=25, for_s=40)
            assert denials(world) > 0
            if workers > 1:
                assert len(world.workers) == workers

    run_virtual(scenario())
    return target


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_target_gets_no_storm_and_every_first_attempt_at_once(workers: int) -> None:
    """Each order would be tried four times: 100 attempts a second instead of 32. Two workers share one budget."""
    target = failing_target(workers)
    assert len(target.first) == 1_000
    assert target.late_ms < 1_500, "a rebalance of the second worker is the most that holds a first attempt back"
    assert target.most_over_budget() <= 2 * ONE_SECOND, "what one worker learns a second late, at most"
    assert len(target.again) > 0.2 * 800, "what the budget allows is used"


def test_the_check_above_fails_without_a_budget_and_where_each_worker_has_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def alone(self: MemoryStore, name: str, first: int, again: int, *, window_ms: int) -> tuple[int, int]:
        return first, again

    with monkeypatch.context() as patched:
        patched.setattr(MemoryStore, "tally", alone)
        assert failing_target(2).most_over_budget() > 2 * ONE_SECOND
    monkeypatch.setattr(Slots, "_is_affordable", lambda *_: True)
    target = Target(lambda _: True)

    async def scenario() -> None:
        async with InMemoryBridge(bridge_to(target)) as world:
            await stream(world, per_s=25, for_s=40)

    run_virtual(scenario())
    assert target.most_over_budget() > 10 * ONE_SECOND


def test_replays_are_within_the_budget_too() -> None:
    """40 dead letters come back at once: 20 by the floor of a window, the others as it moves on."""
    broken = True
    target = Target(lambda _: broken)

    async def scenario() -> None:
        nonlocal broken
        bridge = bridge_to(target, in_place=1)
        async with InMemoryBridge(bridge) as world:
            for number in range(40):
                await place(world, number, customer=f"c{number}")
            await world.settled()
            broken = False
            redrive = bridge.config.routes[0].lane_names.redrive
            now_ms = world.clock.now_ms()
            raw = world.transport.producer()
            await raw.start()
            await raw.send_batch(
                [write_redrive(x, topic=redrive, replay_id="r1", now_ms=now_ms) for x in world.dead_letters(GROUP)]
            )
            await asyncio.sleep(WINDOW_MS / 2000)
            assert len(target.again) == 0.2 * 40 + FLOOR * WINDOW_MS / 1000
            world.start_worker("worker-2")
            await place(world, 100, customer="new")
            await world.settled()
            assert len(target.again) == 40, "each once: what waited in hand or in the lane was not lost or repeated"

    run_virtual(scenario())
    assert target.late_ms < 1_500


def test_a_store_that_refuses_to_count_leaves_each_worker_its_own_budget() -> None:
    class NoTallies(MemoryStore):
        asked = 0

        async def tally(self, name: str, first: int, again: int, *, window_ms: int) -> tuple[int, int]:
            self.asked += 1
            raise StoreError("counts are refused")

    target = Target(lambda _: True)

    async def scenario() -> None:
        store = NoTallies(LoopClock())
        async with InMemoryBridge(bridge_to(target), store=store) as world:
            await stream(world, per_s=25, for_s=40)
            assert store.asked >= 40, "once a second, whatever it answers"
            assert denials(world) > 0

    run_virtual(scenario())
    assert len(target.first) == 1_000
    assert target.most_over_budget() <= 2 * ONE_SECOND


@pytest.mark.parametrize(
    ("section", "identity"),
    [
        ({"kind": "http", "url": "http://Pay.example/v1/payments?x=1"}, "http://pay.example:80"),
        ({"kind": "http", "url": "https://[::1]/payments"}, "https://[::1]:443"),
        ({"kind": "http", "url": "http://127.0.0.1:9100/refunds"}, "http://127.0.0.1:9100"),
        ({"kind": "python", "handler": "shop.handlers:capture"}, "python:shop.handlers:capture"),
        ({"kind": "topic", "topic": "audit"}, "topic:audit"),
    ],
)
def test_routes_share_a_budget_by_where_they_deliver(section: dict[str, str], identity: str) -> None:
    route = {"name": "r", "topic": "orders", "target": section}
    assert config_from({"route": [route]}).routes[0].target_identity == identity


def test_handlers_in_a_services_own_code_have_a_budget_each() -> None:
    bridge = shop(Target(lambda _: False))
    assert bridge.config.routes[0].target_identity == "python:payments/orders.placed"
