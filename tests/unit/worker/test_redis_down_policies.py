"""Routes that go on while Redis is away (window W5, row 33): the engine as it is, on a store around the store."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from orders import GROUP, place, shop
from structlog.testing import capture_logs

from broker_bridge import Context, Message
from broker_bridge.idempotency.memory import Failure
from broker_bridge.observability import names
from broker_bridge.testing import InMemoryBridge, run_virtual
from broker_bridge.testing.lifeline import WORKER

POLICIES = ("fallback", "fail_open")


class Effects:
    """A handler that notes what it did, and as which try."""

    def __init__(self, *, takes_s: float = 0.0) -> None:
        self.done: list[tuple[str, int]] = []
        self.takes_s = takes_s

    async def handle(self, message: Message[dict[str, Any]], context: Context) -> None:
        await asyncio.sleep(self.takes_s)
        self.done.append((message.value["order_id"], context.attempt))

    @property
    def ids(self) -> list[str]:
        return [order_id for order_id, _ in self.done]


def world_with(effects: Effects, policy: str, **policies: Any) -> InMemoryBridge:
    return InMemoryBridge(shop(effects.handle, claims={"on_redis_down": policy}, **policies))


def counted(world: InMemoryBridge, name: str, **labels: str) -> float:
    """A counter of the worker that runs."""
    assert world.worker is not None
    registry = world.worker.routes[0].pipeline.metrics.registry
    return registry.get_sample_value(f"{names.PREFIX}{name}_total", {"route": GROUP, **labels}) or 0.0


@pytest.mark.parametrize("policy", POLICIES)
def test_row_33_the_route_goes_on_through_an_outage_and_says_what_may_be_a_repeat(policy: str) -> None:
    effects = Effects()

    async def scenario() -> list[str]:
        with capture_logs() as logs:
            async with world_with(effects, policy) as world:
                await place(world, 0, 1)
                await world.settled()
                world.store.available = False
                await place(world, 2, 3)
                await world.settled(within_ms=10_000)
                assert world.worker is not None
                assert world.worker.ready().checks[GROUP] == "delivering"
                assert counted(world, "windows", window=names.W5_FAILED_OPEN) == 2
                world.store.available = True
                await asyncio.sleep(3)
                await place(world, 4)
                await world.settled()
                assert counted(world, "windows", window=names.W5_FAILED_OPEN) == 2
                assert counted(world, "unguarded_claims", outcome="collided") == 0
        return [entry["event"] for entry in logs if entry["event"].startswith("claims_")]

    assert run_virtual(scenario()) == ["claims_unguarded", "claims_guarded"]
    assert effects.done == [("o-0000", 1), ("o-0001", 1), ("o-0002", 2), ("o-0003", 2), ("o-0004", 1)]


def test_duplicates_within_an_outage_are_dropped_by_fallback_and_done_again_by_fail_open() -> None:
    async def scenario(policy: str) -> list[str]:
        effects = Effects()
        async with world_with(effects, policy) as world:
            await place(world, 0)
            await world.settled()
            world.store.available = False
            await place(world, 0, 1, 1)
            await world.settled()
        return effects.ids

    assert run_virtual(scenario("fallback")) == ["o-0000", "o-0001"]
    assert run_virtual(scenario("fail_open")) == ["o-0000", "o-0000", "o-0001", "o-0001"]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_worker_started_after_the_outage_drops_what_was_done_during_it(policy: str) -> None:
    effects = Effects()

    async def scenario() -> None:
        async with world_with(effects, policy) as world:
            world.store.available = False
            await place(world, 0, 1, 2)
            await world.settled()
            world.store.available = True
            await asyncio.sleep(3)
            await world.stop_worker()
            world.start_worker("worker-2")
            await place(world, 0, 1, 2, 3)
            await world.settled()
            assert counted(world, "duplicates") == 3

    run_virtual(scenario())
    assert effects.ids == ["o-0000", "o-0001", "o-0002", "o-0003"]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_worker_that_drains_in_the_outage_writes_home_if_it_can(policy: str) -> None:
    effects = Effects()

    async def scenario() -> None:
        async with world_with(effects, policy) as world:
            world.store.available = False
            await place(world, 0)
            await world.settled()
            world.store.available = True
            await world.stop_worker()
            world.start_worker("worker-2")
            await place(world, 0)
            await world.settled()

    run_virtual(scenario())
    assert effects.ids == ["o-0000"]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_worker_starts_while_redis_is_away(policy: str) -> None:
    effects = Effects()

    async def scenario() -> None:
        async with world_with(effects, policy) as world:
            await world.stop_worker()
            world.store.available = False
            world.start_worker()
            await place(world, 0)
            await world.settled(within_ms=10_000)
            world.store.available = True
            await asyncio.sleep(3)
            await place(world, 0)
            await world.settled()

    run_virtual(scenario())
    assert effects.done == [("o-0000", 2)]


@pytest.mark.parametrize("policy", POLICIES)
def test_handlers_that_outlast_the_outage_or_begin_before_it_are_settled_at_home(policy: str) -> None:
    effects = Effects(takes_s=15)

    async def scenario() -> None:
        async with world_with(effects, policy) as world:
            await place(world, 0, customer="a")
            await asyncio.sleep(5)
            world.store.available = False
            await place(world, 1, customer="b")
            await asyncio.sleep(13)  # the first ended in the outage, the second runs on
            world.store.available = True
            await world.settled()
            await place(world, 0, customer="a")
            await place(world, 1, customer="b")
            await world.settled()
            assert counted(world, "windows", window=names.W5_FAILED_OPEN) == 1
            assert counted(world, "stale") == counted(world, "lease_lost") == 0

    run_virtual(scenario())
    assert effects.done == [("o-0000", 1), ("o-0001", 2)]


def test_retries_and_dead_letters_go_on_in_the_outage_and_are_known_after_it() -> None:
    tries: list[tuple[str, int]] = []

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        tries.append((message.value["order_id"], context.attempt))
        raise ValueError("never")

    async def scenario() -> None:
        policies: dict[str, Any] = {"retry": {"in_place": 2, "lanes": ["10s"]}, "claims": {"on_redis_down": "fallback"}}
        async with InMemoryBridge(shop(handle, **policies)) as world:
            world.store.available = False
            await place(world, 0)
            await world.settled()
            (letter,) = world.dead_letters(GROUP)
            assert letter.failure.attempts == 3
            world.store.available = True
            await asyncio.sleep(3)
            await place(world, 0)
            await world.settled()
            assert len(world.dead_letters(GROUP)) == 1
            assert counted(world, "skipped", reason="already_dead") == 1

    run_virtual(scenario())
    assert len(tries) == 3


def test_under_fallback_outages_at_random_repeat_no_effect_of_one_worker() -> None:
    async def scenario(seed: int) -> Counter[str]:
        rng, effects = random.Random(seed), Effects(takes_s=0.3)
        async with world_with(effects, "fallback", concurrency=4) as world:
            for _ in range(60):
                chance = rng.random()
                if chance < 0.2:
                    world.store.available = not world.store.available
                elif chance < 0.4:
                    world.store.fail_next(rng.randrange(1, 4), how=rng.choice(list(Failure)))
                number = rng.randrange(40)
                await place(world, number, customer=f"c{number % 5}")
                await asyncio.sleep(rng.choice((0.05, 0.5, 2)))
            world.store.available = True
            await world.settled()
            assert counted(world, "unguarded_claims", outcome="collided") == 0
        return Counter(effects.ids)

    for seed in range(15):
        assert set(run_virtual(scenario(seed)).values()) == {1}, seed


@pytest.mark.parametrize("policy", POLICIES)
def test_what_a_worker_cut_off_did_as_well_as_another_is_found_out(policy: str) -> None:
    done_by: Counter[str] = Counter()

    async def handle(_: Message[dict[str, Any]], __: Context) -> None:
        done_by[WORKER.get()] += 1

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, claims={"on_redis_down": policy})) as world:
            world.start_worker("worker-2")
            await asyncio.sleep(10)
            cut_off = world.workers["worker-1"]
            cut_off.line.store_away = True
            for customer in range(12):  # one event, in partitions of both workers
                await place(world, 0, customer=f"c{customer}")
            await world.settled()
            cut_off.line.store_away = False
            await asyncio.sleep(5)
            registry = cut_off.worker.routes[0].pipeline.metrics.registry
            labels = {"route": GROUP, "outcome": "collided"}
            told = registry.get_sample_value(f"{names.PREFIX}unguarded_claims_total", labels)
            assert told == done_by["worker-1"]

    run_virtual(scenario())
    assert done_by["worker-2"] == 1
    assert done_by["worker-1"] == 1 if policy == "fallback" else done_by["worker-1"] > 1
