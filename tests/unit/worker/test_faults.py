"""Crashes, lost answers, outages of Kafka and Redis. Numbers in names are rows of the fault matrix."""

from __future__ import annotations

import asyncio
from typing import Any

from orders import GROUP, place, shop, target_within

from broker_bridge import Context, Message
from broker_bridge.core.dead_letter import write_redrive
from broker_bridge.errors import DeliveryTimeoutError, RejectedError
from broker_bridge.idempotency.memory import Failure
from broker_bridge.testing import InMemoryBridge, LoopClock, run_virtual


def test_row_3_crash_between_effect_and_complete_repeats_at_most_once_and_says_so() -> None:
    effects: list[tuple[str, int]] = []
    gate = asyncio.Event()

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        effects.append((message.value["order_id"], context.crashes))
        if context.crashes == 0 and message.value["order_id"] == "o-0002":
            gate.set()
            await asyncio.sleep(3_600)

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle)) as world:
            await place(world, 1, 2, 3)
            await gate.wait()
            await asyncio.sleep(0.1)  # o-0001 is settled meanwhile
            await world.crash_worker()
            world.start_worker()
            await world.settled()
            assert world.dead_letters(GROUP) == []

    run_virtual(scenario())
    assert effects == [("o-0001", 0), ("o-0002", 0), ("o-0002", 1), ("o-0003", effects[-1][1])]


def test_row_4_crash_after_complete_before_commit_skips_what_was_done() -> None:
    effects: list[str] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        effects.append(message.value["order_id"])

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, commit_interval="1h")) as world:
            await place(world, *range(20))
            while len(effects) < 20:
                await asyncio.sleep(0.1)
            await asyncio.sleep(1)
            assert world.log.committed.get(GROUP, {}) == {}
            await world.crash_worker()
            world.start_worker()
            await asyncio.sleep(60)
            await world.stop_worker()

    run_virtual(scenario())
    assert sorted(effects) == [f"o-{n:04d}" for n in range(20)]


def test_the_parked_set_survives_a_crash() -> None:
    seen: list[tuple[str, int]] = []

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        seen.append((message.value["order_id"], context.attempt))
        if message.value["order_id"] == "o-0001" and context.attempt == 1:
            raise ValueError("not yet")

    async def scenario() -> None:
        policies = {"retry": {"in_place": 1, "lanes": ["1m"]}}
        async with InMemoryBridge(shop(handle, **policies)) as world:
            await place(world, 1, 2)
            await asyncio.sleep(10)
            await world.crash_worker()
            world.start_worker()
            await place(world, 3)
            await world.settled()

    run_virtual(scenario())
    assert seen == [("o-0001", 1), ("o-0001", 2), ("o-0002", 1), ("o-0003", 1)]


def test_attempts_in_place_are_remembered_across_a_crash() -> None:
    attempts: list[int] = []

    async def handle(_: Message[dict[str, Any]], context: Context) -> None:
        attempts.append(context.attempt)
        raise ValueError("never")

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, retry={"in_place": 4, "base": "1m", "max": "1m"})) as world:
            await place(world, 1)
            while len(attempts) < 2:
                await asyncio.sleep(1)
            await asyncio.sleep(1)
            await world.crash_worker()
            world.start_worker()
            await world.settled()
            (letter,) = world.dead_letters(GROUP)
            assert letter.failure.attempts == 4

    run_virtual(scenario())
    assert attempts == [1, 2, 3, 4]


def test_row_9_sigterm_lets_the_handler_end_and_gives_the_rest_back() -> None:
    started, ended = [], []

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        started.append((message.value["order_id"], context.crashes))
        await asyncio.sleep(5)
        ended.append(message.value["order_id"])

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, concurrency=1)) as world:
            await place(world, 1, 2, 3)
            while not started:
                await asyncio.sleep(0.1)
            await world.stop_worker()
            assert ended == ["o-0001"]
            assert sum(world.log.committed[GROUP].values()) == 1
            world.start_worker()
            await world.settled()

    run_virtual(scenario())
    assert ended == ["o-0001", "o-0002", "o-0003"]
    assert started == [("o-0001", 0), ("o-0002", 0), ("o-0003", 0)]


def test_row_13_a_handler_that_hangs_is_broken_off_and_the_attempt_counted() -> None:
    attempts: list[int] = []

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        if message.value["order_id"] == "o-0001":
            attempts.append(context.attempt)
            await asyncio.sleep(86_400)

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, retry={"in_place": 2}, target=target_within("30s"))) as world:
            await place(world, 1)
            await asyncio.sleep(31)
            await place(world, 2, customer="another")  # is answered: what hangs hangs by itself
            await world.settled()
            (letter,) = world.dead_letters(GROUP)
            assert (letter.failure.code, letter.failure.attempts) == ("target_timeout", 2)

    run_virtual(scenario())
    assert attempts == [1, 2]


def test_row_14_a_message_whose_workers_keep_dying_is_set_aside() -> None:
    tries: list[int] = []

    async def handle(_: Message[dict[str, Any]], context: Context) -> None:
        tries.append(context.crashes)
        await asyncio.sleep(86_400)

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, claims={"crash_limit": 3})) as world:
            await place(world, 1)
            for crash in range(3):
                while len(tries) <= crash:
                    await asyncio.sleep(0.1)
                await world.crash_worker()
                world.start_worker()
            await world.settled()
            assert [letter.failure.code for letter in world.dead_letters(GROUP)] == ["crash_suspect"]

    run_virtual(scenario())
    assert tries == [0, 1, 2]


def test_row_14_only_the_message_that_was_started_each_time_is_set_aside() -> None:
    """The sound ones were in hand whenever a worker died, and count as many crashes; none of them was ever begun."""
    runs: list[str] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        runs.append(message.value["note"])
        if message.value["note"] == "deadly":
            await asyncio.sleep(86_400)

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, concurrency=1, claims={"crash_limit": 3}), partitions=1) as world:
            await world.stop_worker()
            await place(world, 1, customer="deadly", note="deadly")
            for number in range(2, 6):
                await place(world, number, customer=f"c{number}", note="sound")
            world.start_worker()
            for crash in range(3):
                while runs.count("deadly") <= crash:
                    await asyncio.sleep(0.1)
                await world.crash_worker()
                world.start_worker()
            await world.settled()
            assert [letter.key for letter in world.dead_letters(GROUP)] == [b"deadly"]

    run_virtual(scenario())
    assert runs.count("sound") == 4


def test_rows_33_and_34_redis_away_pauses_and_a_lost_answer_is_asked_for_again() -> None:
    effects: list[str] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        effects.append(message.value["order_id"])

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle)) as world:
            await place(world, 0)
            await world.settled()
            world.store.available = False
            await place(world, 1, 2)
            await asyncio.sleep(600)
            assert effects == ["o-0000"]
            assert world.worker is not None
            assert "redis_down" in world.worker.ready().checks[GROUP]
            world.store.available = True
            await world.settled()
            world.store.fail_next(1, how=Failure.ANSWER_LOST)
            await place(world, 3)
            await world.settled()
            assert world.worker.ready().checks[GROUP] == "delivering"
            assert world.dead_letters(GROUP) == []

    run_virtual(scenario())
    assert effects == ["o-0000", "o-0001", "o-0002", "o-0003"]


def test_row_35_an_answer_lost_at_complete_does_not_repeat_the_effect() -> None:
    effects: list[str] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        effects.append(message.value["order_id"])
        world.store.fail_next(1, how=Failure.ANSWER_LOST)

    async def scenario() -> None:
        nonlocal world
        async with InMemoryBridge(shop(handle)) as world:
            await place(world, 1, 2)
            await world.settled()

    world: InMemoryBridge = None  # type: ignore[assignment]
    run_virtual(scenario())
    assert effects == ["o-0001", "o-0002"]


def test_rows_7_and_30_a_dead_letter_that_kafka_does_not_take_blocks_instead_of_being_lost() -> None:
    async def handle(_: Message[dict[str, Any]], __: Context) -> None:
        raise RejectedError("no")

    async def scenario() -> None:
        bridge = shop(handle)
        async with InMemoryBridge(bridge, partitions=1) as world:
            dead = bridge.config.routes[0].lane_names.dead_letter
            world.log.fail_next_sends(5, DeliveryTimeoutError("no answer"), topic=dead)
            await place(world, 1)
            await world.settled()
            assert len(world.dead_letters(GROUP)) == 1
            world.log.lose_next_acks(1, topic=dead)
            await place(world, 2)
            await world.settled()
            origins = [letter.origin.offset for letter in world.dead_letters(GROUP)]
            assert origins in ([0, 1], [0, 1, 1]), "at least one dead letter each, never none"

    run_virtual(scenario())


def test_a_dead_letter_runs_again_only_for_a_replay_and_once() -> None:
    attempts: list[str | None] = []
    fixed = False

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        attempts.append(message.replay_id)
        if not fixed:
            raise RejectedError("no")

    async def scenario() -> None:
        nonlocal fixed
        bridge = shop(handle)
        async with InMemoryBridge(bridge) as world:
            await place(world, 1)
            await world.settled()
            await place(world, 1)
            await world.settled()
            assert attempts == [None], "the second copy of a dead message is not tried"
            (letter,) = world.dead_letters(GROUP)
            fixed = True
            redrive = bridge.config.routes[0].lane_names.redrive
            copy = write_redrive(letter, topic=redrive, replay_id="r1", now_ms=world.clock.now_ms())
            raw = world.transport.producer()
            await raw.start()
            await raw.send_batch([copy, copy])
            await world.settled()

    run_virtual(scenario())
    assert attempts == [None, "r1"]


def test_kafka_away_in_mid_stream_loses_nothing() -> None:
    effects: list[str] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        effects.append(message.value["order_id"])

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle)) as world:
            await place(world, 1)
            await world.settled()
            world.log.available = False
            await asyncio.sleep(30)
            world.log.available = True
            await place(world, 2)
            await world.settled()

    run_virtual(scenario())
    assert effects == ["o-0001", "o-0002"]


def test_row_41_a_wall_clock_that_steps_back_an_hour_stalls_neither_retries_nor_the_breaker() -> None:
    class Stepping:
        """A wall clock that can be set."""

        def __init__(self) -> None:
            self.offset_ms = 0
            self._loop = LoopClock()

        def now_ms(self) -> int:
            return self._loop.now_ms() + self.offset_ms

        async def sleep_ms(self, delay_ms: float) -> None:
            await self._loop.sleep_ms(delay_ms)

    clock = Stepping()
    attempts: list[int] = []

    async def handle(_: Message[dict[str, Any]], context: Context) -> None:
        attempts.append(context.attempt)
        if context.attempt < 3:
            raise ValueError("not yet")

    async def scenario() -> None:
        async with InMemoryBridge(
            shop(handle, retry={"in_place": 3, "base": "10s", "max": "10s"}), clock=clock
        ) as world:
            await place(world, 1)
            while not attempts:
                await asyncio.sleep(0.1)
            clock.offset_ms = -3_600_000
            await world.settled(within_ms=60_000)
            assert world.dead_letters(GROUP) == []

    run_virtual(scenario())
    assert attempts == [1, 2, 3]


def test_sound_messages_in_the_hands_of_dying_workers_are_not_set_aside_with_the_deadly_one() -> None:
    done: list[str] = []
    deadly_runs = asyncio.Event()

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        if message.value["order_id"] == "o-0001":
            deadly_runs.set()
            await asyncio.sleep(86_400)
        await asyncio.sleep(1)
        done.append(message.value["order_id"])

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, concurrency=2, claims={"crash_limit": 3}), partitions=1) as world:
            for number in range(12):
                await place(world, number, customer=f"c{number}")
            for _ in range(3):
                await deadly_runs.wait()
                deadly_runs.clear()
                await world.crash_worker()
                world.start_worker()
            await world.settled()
            assert [letter.idempotency_key for letter in world.dead_letters(GROUP)] == ["test#o-0001"]

    run_virtual(scenario())
    assert sorted(set(done)) == [f"o-{n:04d}" for n in range(12) if n != 1]
