"""Partitions that change hands at the worst moment: nothing lost, nothing overtaken, no waiting for a dead lease."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from orders import GROUP, TOPIC, place, shop, target_within

from broker_bridge import Context, Message, RejectedError
from broker_bridge.core.claim import ClaimAnswer, ClaimRequest
from broker_bridge.errors import TargetUnavailableError, TransportError
from broker_bridge.idempotency.memory import MemoryStore
from broker_bridge.message import OutgoingRecord, Position, TopicPartition
from broker_bridge.testing import InMemoryBridge, LoopClock, run_virtual
from broker_bridge.testing.lifeline import WORKER
from broker_bridge.transport.memory import MemoryProducer


class SlowStore(MemoryStore):
    """Answers claims late: they are granted long before the worker knows."""

    late_s = 0.0

    async def claim(self, group: str, requests: Sequence[ClaimRequest], *, lease_ms: int) -> list[ClaimAnswer]:
        answers = await super().claim(group, requests, lease_ms=lease_ms)
        await asyncio.sleep(self.late_s)
        return answers


def test_claims_granted_for_partitions_that_are_gone_are_given_back() -> None:
    seen: list[tuple[str, int]] = []
    at: list[float] = []

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        seen.append((message.value["order_id"], context.crashes))
        at.append(asyncio.get_running_loop().time())

    async def scenario() -> None:
        store = SlowStore(LoopClock())
        async with InMemoryBridge(shop(handle), store=store) as world:
            await asyncio.sleep(1)
            store.late_s = 2.0
            await place(world, 1, 2, 3)
            await asyncio.sleep(1)
            stopping = asyncio.create_task(world.stop_worker())
            await asyncio.sleep(2)
            store.late_s = 0.0
            await stopping
            world.start_worker()
            await world.settled()

    run_virtual(scenario())
    assert seen == [("o-0001", 0), ("o-0002", 0), ("o-0003", 0)], "a clean stop is no crash"
    assert max(at) < 10, "nobody waits for a lease that nobody holds"


def test_a_key_does_not_overtake_a_copy_that_a_zombie_writes_behind_the_rebuild() -> None:
    """The zombie's retry copy of m1 lands in a lane that the new owner does not fetch, because it already holds one
    that is not due. All that the new owner sees is that m1 has a newer copy somewhere."""
    clock = LoopClock()
    seen: list[tuple[str, int]] = []
    gate = asyncio.Event()

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        number = message.value["order_id"]
        seen.append((number, context.attempt))
        if number == "o-0009" and context.attempt == 1:
            raise ValueError("not yet")
        if number == "o-0001" and context.attempt == 1:
            await gate.wait()
            raise ValueError("not yet")

    async def scenario() -> None:
        policies = {"retry": {"in_place": 1, "lanes": ["1m"]}, "shutdown": {"drain": "1s"}}
        async with InMemoryBridge(shop(handle, **policies), partitions=1, clock=clock) as world:
            await place(world, 9, customer="other")
            await asyncio.sleep(1)
            await place(world, 1, customer="held")
            await asyncio.sleep(1)
            zombie = world.workers["worker-1"]
            zombie.line.polling.clear()
            await asyncio.sleep(1)
            await zombie.evict()
            world.start_worker("worker-2")
            await asyncio.sleep(5)
            await place(world, 2, customer="held")
            await asyncio.sleep(5)
            gate.set()
            await asyncio.sleep(5)
            zombie.line.polling.set()
            await world.settled()

    run_virtual(scenario())
    held = [found for found in seen if found[0] != "o-0009"]
    assert held == [("o-0001", 1), ("o-0001", 2), ("o-0002", 1)]


def test_a_key_does_not_overtake_a_marker_that_a_zombie_writes_behind_the_rebuild() -> None:
    """The same for a dead letter that holds its key: all that the new owner sees is that m1 is dead."""
    clock = LoopClock()
    seen: list[str] = []
    gate = asyncio.Event()

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        number = message.value["order_id"]
        seen.append(number)
        if number == "o-0009" and context.attempt == 1:
            raise ValueError("not yet")
        if number == "o-0001" and not message.replay_id:
            await gate.wait()
            raise RejectedError("no")

    async def scenario() -> None:
        policies = {"retry": {"in_place": 1, "lanes": ["1m"]}, "shutdown": {"drain": "1s"}}
        bridge = shop(handle, dead_letter={"on_dead": "hold"}, **policies)
        async with InMemoryBridge(bridge, partitions=1, clock=clock) as world:
            await place(world, 9, customer="other")
            await asyncio.sleep(1)
            await place(world, 1, customer="held")
            await asyncio.sleep(1)
            zombie = world.workers["worker-1"]
            zombie.line.polling.clear()
            await asyncio.sleep(1)
            await zombie.evict()
            world.start_worker("worker-2")
            await asyncio.sleep(5)
            await place(world, 2, customer="held")
            await asyncio.sleep(5)
            gate.set()
            await asyncio.sleep(5)
            zombie.line.polling.set()
            await asyncio.sleep(300)

    run_virtual(scenario())
    assert [number for number in seen if number != "o-0009"] == ["o-0001"], "nothing of the key before it was replayed"


def test_an_outage_that_a_rebalance_falls_into_ends() -> None:
    """Everything that was held for the breaker was given back; what is read anew must be woken when it may probe."""
    clock = LoopClock()
    applied: list[str] = []
    back_at_ms = 0

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        if clock.now_ms() < back_at_ms:
            raise TargetUnavailableError("connection refused")
        applied.append(message.value["order_id"])

    async def scenario() -> None:
        nonlocal back_at_ms
        back_at_ms = clock.now_ms() + 40_000
        policies = {"breaker": {"open": "30s", "max_open": "30s"}, "retry": {"in_place": 30}}
        async with InMemoryBridge(shop(handle, **policies), clock=clock) as world:
            await place(world, 1, 2, 3, 4, 5, customer="a")
            for number in range(10, 20):
                await place(world, number, customer=f"c{number}")
            await asyncio.sleep(10)
            await world.workers["worker-1"].evict()
            await world.settled(within_ms=300_000)

    run_virtual(scenario())
    assert len(applied) == 15


def test_a_stop_in_the_middle_of_a_rebalance_waits_once() -> None:
    async def handle(_: Message[dict[str, Any]], __: Context) -> None:
        await asyncio.sleep(5)

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle)) as world:
            await place(world, 1)
            await asyncio.sleep(1)
            world.start_worker("worker-2")
            await asyncio.sleep(1)
            started = asyncio.get_running_loop().time()
            await world.stop_worker("worker-1")
            took = asyncio.get_running_loop().time() - started
            assert took < 6, f"the handler ends after 3 s more, the drain took {took:.1f} s"
            await world.settled()

    run_virtual(scenario())


def test_a_worker_that_drains_does_not_move_offsets_that_others_have_moved_since() -> None:
    """While worker 1 drains, its partition goes to worker 2, which commits more, and comes back in a rebalance."""
    gate = asyncio.Event()
    runs: list[str] = []

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        runs.append(message.value["order_id"])
        if len(runs) == 1:
            await gate.wait()

    async def scenario() -> None:
        policies = {"shutdown": {"drain": "50s"}}
        async with InMemoryBridge(shop(handle, **policies), partitions=1) as world:
            world.transport._group(GROUP)._rebalance_timeout_ms = 1_000  # type: ignore[attr-defined]
            await place(world, 0, customer="held")
            await place(world, *range(1, 6), customer="free")
            await asyncio.sleep(2)
            tp = TopicPartition(TOPIC, 0)
            await world.workers["worker-1"].evict()
            world.workers["worker-1"].worker.stop()
            world.start_worker("worker-2")
            await place(world, *range(6, 20), customer="free")
            await asyncio.sleep(5)
            gate.set()
            highest = 0
            for _ in range(100):
                await asyncio.sleep(0.1)
                now = world.log.committed.get(GROUP, {}).get(tp, 0)
                assert now >= highest
                highest = now
            await world.settled()

    run_virtual(scenario())
    assert runs.count("o-0000") == 1


@pytest.mark.parametrize("ending", ["stop", "crash", "evict"])
def test_two_workers_share_the_work_and_one_ends(ending: str) -> None:
    seen: list[str] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        await asyncio.sleep(0.05)
        seen.append(message.value["order_id"])

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, claims={"lease": "5s"}, target=target_within("4s"))) as world:
            world.start_worker("worker-2")
            for number in range(60):
                await place(world, number, customer=f"c{number % 9}")
            await asyncio.sleep(0.2)
            await getattr(world.workers["worker-1"], ending)()
            await world.settled()
            assert world.dead_letters(GROUP) == []

    run_virtual(scenario())
    assert sorted(set(seen)) == [f"o-{n:04d}" for n in range(60)]
    assert len(seen) == 60 or ending == "crash"


def test_a_claim_that_ran_out_while_it_waited_is_asked_for_again_before_anything_starts() -> None:
    """A zombie has lost Redis, too. By the time its slot gets free another worker has taken over what waited for it."""
    runs: list[tuple[str, str]] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        runs.append((WORKER.get(), message.value["order_id"]))
        await asyncio.sleep(7)

    async def scenario() -> None:
        policies = {"concurrency": 1, "claims": {"lease": "10s"}, "target": target_within("8s")}
        async with InMemoryBridge(shop(handle, **policies), partitions=1) as world:
            for number in (1, 2, 3):
                await place(world, number, customer=f"c{number}")
            await asyncio.sleep(1)
            zombie = world.workers["worker-1"]
            zombie.line.polling.clear()
            zombie.line.store_away = True
            await zombie.evict()
            world.start_worker("worker-2")
            await asyncio.sleep(60)
            zombie.line.store_away = False
            zombie.line.polling.set()
            await world.settled()

    run_virtual(scenario())
    assert ("worker-2", "o-0003") in runs
    assert ("worker-1", "o-0003") not in runs


def test_a_duplicate_in_other_bytes_is_no_conflict_because_kafka_was_away() -> None:
    async def handle(_: Message[dict[str, Any]], __: Context) -> None:
        return

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle), partitions=1) as world:
            await place(world, 1)
            await world.settled()
            first = world.records(TOPIC)[0]
            assert first.value is not None
            item = bytes([2]) + b"A" + bytes([2])
            padded = first.value.replace(bytes([2]) + item + bytes([0]), bytes([1, 2 * len(item)]) + item + bytes([0]))
            assert padded != first.value
            world.store.fail_next(1)
            raw = world.transport.producer()
            await raw.start()
            await raw.send_batch([OutgoingRecord(TOPIC, padded, key=first.key, headers=first.headers)])
            await asyncio.sleep(0.01)
            world.log.available = False
            await asyncio.sleep(5)
            world.log.available = True
            await world.settled()
            assert world.dead_letters(GROUP) == []

    run_virtual(scenario())


def test_an_attempt_that_redis_did_not_hear_of_is_not_forgotten_when_the_claim_is_given_back() -> None:
    attempts: list[int] = []

    async def handle(_: Message[dict[str, Any]], context: Context) -> None:
        attempts.append(context.attempt)
        if len(attempts) == 1:
            world.store.fail_next(1)  # the attempt cannot be written down
        raise ValueError("never")

    async def scenario() -> None:
        nonlocal world
        async with InMemoryBridge(shop(handle, retry={"in_place": 3, "base": "5s", "jitter": 0})) as world:
            await place(world, 1)
            await asyncio.sleep(1)
            await world.stop_worker()
            world.start_worker()
            await world.settled()

    world: InMemoryBridge = None  # type: ignore[assignment]
    run_virtual(scenario())
    assert attempts == [1, 2, 3]


def test_a_duplicate_does_not_hold_the_claim_that_the_first_one_before_it_waits_for() -> None:
    """The first is busy until a dead worker's lease ends, and that answer takes a while to come; duplicates come all
    the time."""
    effects: list[str] = []

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        if context.crashes == 0 and not effects:
            await asyncio.sleep(86_400)
        effects.append(message.value["order_id"])

    async def scenario() -> None:
        policies = {"claims": {"lease": "5s"}, "target": target_within("4s"), "shutdown": {"drain": "1s"}}
        store = SlowStore(LoopClock())
        async with InMemoryBridge(shop(handle, **policies), partitions=1, store=store) as world:
            await place(world, 1)
            await asyncio.sleep(1)
            await world.crash_worker()
            store.late_s = 0.3
            world.start_worker()
            for _ in range(100):
                await asyncio.sleep(0.07)
                await place(world, 1)
            await place(world, 2)
            await world.settled(within_ms=60_000)

    run_virtual(scenario())
    assert effects == ["o-0001", "o-0002"]


def test_what_is_set_aside_is_not_overtaken_while_its_copy_is_being_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """m1 is in the lane; m2 is set aside behind it; m1 ends before m2's copy is written; m3 must not run before m2."""
    seen: list[str] = []
    slow = False
    send_batch = MemoryProducer.send_batch

    async def slowly(self: MemoryProducer, records: Sequence[OutgoingRecord]) -> list[Position | TransportError]:
        if slow and any("retry" in record.topic for record in records):
            await asyncio.sleep(5)
        return await send_batch(self, records)

    monkeypatch.setattr(MemoryProducer, "send_batch", slowly)

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        if message.value["order_id"] == "o-0001" and context.attempt == 1:
            raise ValueError("not yet")
        seen.append(message.value["order_id"])

    async def scenario() -> None:
        nonlocal slow
        bridge = shop(handle, retry={"in_place": 1, "lanes": ["2s"]})
        async with InMemoryBridge(bridge, partitions=1) as world:
            await place(world, 1)
            await asyncio.sleep(1.5)
            slow = True
            await place(world, 2)
            await asyncio.sleep(1.5)
            await place(world, 3)
            await world.settled()

    run_virtual(scenario())
    assert seen == ["o-0001", "o-0002", "o-0003"]
