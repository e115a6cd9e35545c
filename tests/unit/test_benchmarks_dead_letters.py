"""What the benchmark of dead letters writes is what a worker leaves, and wrong work on it is found."""

from __future__ import annotations

import asyncio
import json
import sys
from array import array
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.job import PARTITIONS, Job  # noqa: E402 - the path comes first
from benchmarks.letters import FILTERED, KINDS, Letters, digest, write  # noqa: E402
from benchmarks.scenario import WrongWorkError  # noqa: E402
from benchmarks.scenarios.dead_letters import check_groups, check_plan  # noqa: E402
from benchmarks.verifying import check_numbers  # noqa: E402
from broker_bridge.clock import SystemClock  # noqa: E402
from broker_bridge.core.fingerprint import fingerprint  # noqa: E402
from broker_bridge.core.letters import LetterState, Selection  # noqa: E402
from broker_bridge.idempotency.memory import MemoryStore  # noqa: E402
from broker_bridge.message import Record  # noqa: E402
from broker_bridge.replay.dead_letters import BrowsedLetter, DeadLetters  # noqa: E402
from broker_bridge.replay.route import ReplayRoute  # noqa: E402
from broker_bridge.transport.base import TopicSpec  # noqa: E402
from broker_bridge.transport.memory import MemoryTransport  # noqa: E402

JOB = Job("127.0.0.1:1", "redis://127.0.0.1:1", "bench.letters", "letters", 300)


async def written() -> tuple[Letters, list[BrowsedLetter]]:
    """Filled in memory, and browsed."""
    clock = SystemClock()
    transport, store = MemoryTransport(clock), MemoryStore(clock)
    letters = Letters(ReplayRoute.of(JOB.config().routes[0]))
    await transport.admin().ensure([TopicSpec(letters.route.dead_letter_topic, PARTITIONS)])
    producer, reader = transport.producer(), transport.reader()
    await producer.start()
    await reader.start()
    await store.start()
    await write(JOB, letters, store, producer)
    tool = DeadLetters(reader=reader, store=store, route=letters.route)
    return letters, [one async for batch in tool.browse(Selection()) for one in batch]


@pytest.fixture(scope="module")
def world() -> tuple[Letters, list[BrowsedLetter]]:
    return asyncio.run(written())


def test_letters_are_what_a_worker_leaves(world: tuple[Letters, list[BrowsedLetter]]) -> None:
    letters, browsed = world
    assert len(browsed) == letters.count == JOB.records
    assert {one.state for one in browsed} == {LetterState.WAITING}
    assert {len(one.letter.value or b"") for one in browsed} <= set(range(950, 1_050))
    assert len({one.letter.key for one in browsed}) == JOB.records // 10
    assert set(letters.by_kind().values()) == {JOB.records // len(KINDS)}
    found = {(one.letter.position.partition, one.letter.position.offset): one.letter.failure for one in browsed}
    assert set(found) == set(letters.places())
    assert {place for place, failure in found.items() if failure.code == FILTERED} == set(letters.places(FILTERED))


def test_groups_that_miss_a_letter_are_found(world: tuple[Letters, list[BrowsedLetter]]) -> None:
    letters, _ = world
    groups = [
        {"fingerprint": fingerprint(*kind), "count": number, "waiting": number}
        for kind, number in letters.by_kind().items()
    ]
    check_groups("groups", json.dumps({"groups": groups}), letters)
    for name in ("count", "waiting"):
        wrong = [groups[0] | {name: 29}, *groups[1:]]
        with pytest.raises(WrongWorkError, match="groups are"):
            check_groups("groups", json.dumps({"groups": wrong}), letters)


@pytest.mark.parametrize("code", ["", FILTERED])
def test_a_plan_that_lacks_doubles_or_adds_an_item_is_found(
    world: tuple[Letters, list[BrowsedLetter]], code: str, tmp_path: Path
) -> None:
    letters, _ = world
    places, stranger = list(letters.places(code)), (0, 1_000)
    for found, fault in (
        (places, None),
        (places[1:], "1 lost"),
        ([*places, places[3]], "1 doubled"),
        ([*places[1:], stranger], "1 lost, 1 that nobody ordered"),
    ):
        lines = [{"kind": "plan"}, *(["i", p, o, p, o] for p, o in found), ["s", 0, 7, 0, 7], {"kind": "end"}]
        plan = tmp_path / "some.plan"
        plan.write_text("".join(json.dumps(line) + "\n" for line in lines))
        if fault is None:
            check_plan("plan", plan, letters, code)
            continue
        with pytest.raises(WrongWorkError, match=fault):
            check_plan("plan", plan, letters, code)


def test_a_lane_that_lacks_doubles_or_garbles_a_record_is_found(
    world: tuple[Letters, list[BrowsedLetter]],
) -> None:
    letters, browsed = world
    lane = [
        Record("lane", one.letter.origin.partition, at, 0, one.letter.key, one.letter.value)
        for at, one in enumerate(browsed)
    ]
    check_numbers("lane", map(digest, lane), letters.digests)
    first = lane[0]
    elsewhere = Record("lane", first.partition + 1, 0, 0, first.key, first.value)
    garbled = Record("lane", first.partition, 0, 0, first.key, (first.value or b"")[:-1])
    for wrong in (lane[1:], [*lane, first], [elsewhere, *lane[1:]], [garbled, *lane[1:]]):
        with pytest.raises(WrongWorkError, match="of 300 results 1"):
            check_numbers("lane", map(digest, wrong), letters.digests)
    assert isinstance(letters.digests, array)
