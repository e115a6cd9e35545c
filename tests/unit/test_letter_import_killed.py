"""An import that is killed, or loses Kafka or Redis, anywhere: given again it ends the same, no letter twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from letter_files import (
    bring_back,
    bytes_of,
    dead_letters,
    dead_records,
    export,
    importer,
    retention,
    states,
)
from replay_world import World

from broker_bridge.core.letters import LetterState
from broker_bridge.errors import (
    DeliveryTimeoutError,
    OperationUnrecordedError,
    StoreError,
    TransportError,
)
from broker_bridge.idempotency.memory import Failure as Lost
from broker_bridge.replay.export import ExportedFile


@pytest.fixture
async def world() -> World:
    return await World.in_memory().start()


async def sound(world: World, expected: list[tuple[object, ...]]) -> None:
    assert bytes_of(await dead_letters(world)) == expected
    assert await states(world) == [LetterState.WAITING] * len(expected)


@contextmanager
def store_lost_at(world: World, call: int, how: Lost) -> Iterator[None]:
    store = world.store
    original, calls = store._call, 0  # type: ignore[attr-defined]

    def count(apply: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call:
            store.fail_next(how=how)  # type: ignore[attr-defined]
        return original(apply)

    store._call = count  # type: ignore[attr-defined]
    try:
        yield
    finally:
        store._call = original  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", list(Lost))
@pytest.mark.parametrize("call", range(1, 10))
async def test_redis_lost_at_any_call_and_again_ends_the_same(
    world: World, tmp_path: Path, how: Lost, call: int
) -> None:
    await dead_records(world, 2)
    await export(world, tmp_path / "x")
    expected = bytes_of(await dead_letters(world))
    await retention(world)
    with store_lost_at(world, call, how), suppress(StoreError):
        await bring_back(world, tmp_path / "x", batch=2)
    await bring_back(world, tmp_path / "x", batch=2)
    await sound(world, expected)


@pytest.mark.parametrize("count", range(1, 5))
@pytest.mark.parametrize("is_written", [False, True])
async def test_an_acknowledgement_lost_and_again_ends_the_same(
    world: World, tmp_path: Path, count: int, is_written: bool
) -> None:
    await dead_records(world, 2)
    await export(world, tmp_path / "x")
    expected = bytes_of(await dead_letters(world))
    await retention(world)
    log, topic = world.transport.log, world.route.dead_letter_topic  # type: ignore[attr-defined]
    if is_written:
        log.lose_next_acks(count, topic=topic)
    else:
        log.fail_next_sends(count, DeliveryTimeoutError("no"), topic=topic)
    with pytest.raises(TransportError) as caught:
        await bring_back(world, tmp_path / "x", batch=2)
    assert "give the same command again" in caught.value.remedy
    with suppress(TransportError):
        await bring_back(world, tmp_path / "x")
    await bring_back(world, tmp_path / "x")
    assert Counter(bytes_of(await dead_letters(world))) == Counter(expected), "each once, in whatever order"
    assert await states(world) == [LetterState.WAITING] * 4


async def test_killed_while_it_moved_a_claim_and_again(world: World, tmp_path: Path) -> None:
    await dead_records(world, 1)
    await export(world, tmp_path / "x")
    expected = bytes_of(await dead_letters(world))
    await retention(world)
    original = world.store.settle

    async def killed(*_: object, **__: object) -> None:
        world.store.settle = original  # type: ignore[method-assign]
        raise asyncio.CancelledError

    world.store.settle = killed  # type: ignore[method-assign,assignment]
    with pytest.raises(asyncio.CancelledError):
        await bring_back(world, tmp_path / "x")
    assert LetterState.REPLAYING in await states(world)
    await bring_back(world, tmp_path / "x")
    await sound(world, expected)


async def test_what_cannot_be_recorded_is_not_imported(world: World, tmp_path: Path) -> None:
    await dead_records(world, 1)
    await export(world, tmp_path / "x")
    await retention(world)

    async def refuse(_phase: str, _counts: Mapping[str, int]) -> None:
        raise OperationUnrecordedError("no")

    with pytest.raises(OperationUnrecordedError):
        await bring_back(world, tmp_path / "x", record=refuse)
    assert await dead_letters(world) == []


async def test_stopped_after_the_batch_in_flight_and_again(world: World, tmp_path: Path) -> None:
    await dead_records(world, 3)
    await export(world, tmp_path / "x")
    expected = bytes_of(await dead_letters(world))
    await retention(world)
    stop = asyncio.Event()
    stop.set()
    with ExportedFile.open(tmp_path / "x") as file:
        report = await importer(world, batch=2).run(file, stop=stop)
    assert (report.was_stopped, report.imported) == (True, 2)
    assert (await bring_back(world, tmp_path / "x")).imported == 4
    await sound(world, expected)
