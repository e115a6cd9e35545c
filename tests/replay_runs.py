"""What tests of replays share: a world in virtual time, plans of it, runners on it."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from replay_plans import make_plan, plan_of
from replay_world import TTL_MS, World, a_route

from broker_bridge import headers as h
from broker_bridge.clock import Clock
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.idempotency.memory import MemoryStore
from broker_bridge.message import Record
from broker_bridge.replay.runner import ReplayRunner
from broker_bridge.replay.status import StatusReader
from broker_bridge.replay.verify import Verifier
from broker_bridge.testing.virtual_time import LoopClock, run_virtual
from broker_bridge.transport.base import BatchProducer, LogReader
from broker_bridge.transport.memory import MemoryTransport

__all__ = ["make_plan", "plan_of"]


def new_world() -> World:
    """A world in memory that follows the loop's time, not started."""
    clock = LoopClock()
    return World(MemoryTransport(clock), MemoryStore(clock, claim_ttl_ms=TTL_MS), clock, a_route())


def virtual(scenario: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test in virtual time; its fixture ``world`` is started."""

    @functools.wraps(scenario)
    def run(**given: Any) -> None:
        async def started() -> None:
            await given["world"].start()
            await scenario(**given)

        run_virtual(started())

    return run


async def dead_records(world: World, count: int) -> None:
    """So many dead letters in each of the two partitions."""
    for partition in (0, 1):
        for record in await world.produce(count, partition=partition):
            await world.die(record)
    await world.commit_all()


def runner_of(
    world: World,
    *,
    batch: int = 500,
    reader: LogReader | None = None,
    producer: BatchProducer | None = None,
    store: IdempotencyStore | None = None,
    clock: Clock | None = None,
) -> ReplayRunner:
    return ReplayRunner(
        reader=reader or world.reader,
        producer=producer or world.producer,
        store=store or world.store,
        route=world.route,
        clock=clock or world.clock,
        batch=batch,
    )


def status_of(world: World) -> StatusReader:
    return StatusReader(reader=world.reader, store=world.store, clock=world.clock)


def verifier_of(world: World) -> Verifier:
    return Verifier(reader=world.reader, store=world.store, clock=world.clock)


async def copies_of(world: World) -> list[Record]:
    return await world.read_all(world.route.redrive_topic)


async def copies_per_letter(world: World) -> Counter[str]:
    return Counter(h.text_of(copy.headers, h.DEAD_LETTER) or "" for copy in await copies_of(world))
