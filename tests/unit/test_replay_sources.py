"""Where a replay's letters come from: the source topic, an export; each hands out what was planned, in that order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from replay_plans import given, make_plan, plan_of
from replay_world import World

from broker_bridge.core.exported_letter import ExportHeader, letter_line
from broker_bridge.core.letters import Selection
from broker_bridge.core.replay_plan import difference
from broker_bridge.errors import ExportInvalidError, NotFoundError, PlanInvalidError, PlanRefusedError, UsageError
from broker_bridge.message import OutgoingRecord, TopicPartition
from broker_bridge.replay.dead_letters import DeadLetters
from broker_bridge.replay.export import new_export
from broker_bridge.replay.plan_file import open_plan
from broker_bridge.replay.sources import FileSource, SourceRange, TopicSource, open_source
from broker_bridge.replay.sources import log as log_letters
from broker_bridge.transport.memory import MemoryTransport


@pytest.fixture
async def world() -> World:
    return await World.in_memory().start()


def trim(world: World, topic: str, partition: int, *, before: int) -> None:
    """Retention takes what is before this offset."""
    assert isinstance(world.transport, MemoryTransport)
    world.transport.log.trim(TopicPartition(topic, partition), before=before)


def topic_source(world: World, **wanted: Any) -> TopicSource:
    return TopicSource(reader=world.reader, store=world.store, route=world.route, range_=SourceRange(**wanted))


async def handed_out(world: World, path: Path, *, leave_out: int = -1) -> list[tuple[int, bytes | None]]:
    """Number and value of what the plan's source hands out, each the very letter that was planned."""
    with open_plan(path) as plan:
        items = [item for number, item in enumerate(plan.items()) if number != leave_out]
        async with open_source(plan.header.source, reader=world.reader, store=world.store, route=world.route) as source:
            await source.check()
            found = [one for batch in [b async for b in source.letters(given(items, size=3))] for one in batch]
        assert [numbered.item for numbered, _ in found] == items
        for numbered, letter in found:
            assert letter is not None
            assert difference(numbered.item, letter, namespace=world.route.topic) == ""
        return [(numbered.number, letter.value if letter else None) for numbered, letter in found]


async def test_records_of_the_source_topic(world: World, tmp_path: Path) -> None:
    dead, done, in_hand, forgotten, copy_of_done = await world.produce(5, value=b"v")
    await world.die(dead)
    await world.complete(done)
    await world.to_retry(in_hand)
    (twin,) = await world.write([OutgoingRecord(world.route.topic, b"v", b"k", done.headers, 0)])
    await world.commit({TopicPartition(world.route.topic, 0): 6})
    pending = await world.produce(2)
    del forgotten, copy_of_done

    source = topic_source(world, partition=0, from_offset=0)
    prediction = await plan_of(world, source, tmp_path / "p")
    with open_plan(tmp_path / "p") as plan:
        assert plan.header.source == {"kind": "topic", "topic": world.route.topic}
        assert plan.header.selection == {"partition": 0, "from_offset": 0}
        assert [item.origin_offset for item in plan.items()] == [dead.offset]
        assert {letter.origin_offset: letter.why for letter in plan.skipped()} == {
            done.offset: "already_completed",
            in_hand.offset: "in_hand",
            3: "claim_expired",
            4: "claim_expired",
            twin.offset: "superseded",
            pending[0].offset: "pending",
            pending[1].offset: "pending",
        }
    assert (prediction.selected, prediction.to_replay, prediction.pending) == (8, 1, 2)
    forced = await plan_of(world, topic_source(world, since_ms=0), tmp_path / "f", force=True, allow_expired=True)
    assert (forced.to_replay, forced.forced, forced.pending) == (4, 1, 2)
    assert [value for _, value in await handed_out(world, tmp_path / "f", leave_out=2)] == [b"v"] * 3


async def test_a_range_of_a_topic_is_cut_to_offsets_and_times(world: World, tmp_path: Path) -> None:
    for _ in range(4):
        await world.produce(1)
        await world.clock.sleep_ms(1_000)
    await world.produce(2, partition=1)
    start_ms = world.clock.now_ms() - 4_000
    wanted = [
        ({"partition": 0, "from_offset": 1, "to_offset": 3}, 2),
        ({"partition": 0, "to_offset": 99}, 4),
        ({"partition": 1}, 2),
        ({"since_ms": start_ms + 2_000}, 4),
        ({"since_ms": start_ms + 1_000, "until_ms": start_ms + 3_000}, 2),
        ({"partition": 0, "from_offset": 3, "until_ms": start_ms + 2_000}, 0),
    ]
    for number, (given_, count) in enumerate(wanted):
        prediction = await plan_of(world, topic_source(world, **given_), tmp_path / f"{number}")
        assert prediction.selected == count, given_
    with pytest.raises(UsageError, match="needs a range"):
        SourceRange()
    with pytest.raises(UsageError, match="one partition"):
        SourceRange(from_offset=3)
    with pytest.raises(NotFoundError):
        await plan_of(world, topic_source(world, partition=7), tmp_path / "none")


async def test_what_retention_removed_is_not_passed_over_in_silence(world: World, tmp_path: Path) -> None:
    await world.produce(3)
    trim(world, world.route.topic, 0, before=2)
    with pytest.raises(PlanRefusedError, match="retention has removed offsets 1 to 1") as caught:
        await plan_of(world, topic_source(world, partition=0, from_offset=1), tmp_path / "p")
    assert "--from-offset 2" in caught.value.remedy
    assert (await plan_of(world, topic_source(world, partition=0), tmp_path / "q")).selected == 1


async def export(world: World, path: Path, *, group: str = "") -> None:
    """Every dead letter of the world."""
    route = world.route
    header = ExportHeader("now", "ada", route.name, group or route.group, route.topic, route.dead_letter_topic, {})
    letters = DeadLetters(reader=world.reader, store=world.store, route=route)
    with new_export(path, header) as writer:
        async for batch in letters.browse(Selection()):
            for letter, _, _ in batch:
                assert letter.record is not None
                writer.add(letter_line(letter.record, letter))
        writer.finish()


async def test_letters_of_a_file_go_back_also_where_the_topic_lost_them(world: World, tmp_path: Path) -> None:
    path = tmp_path / "letters.ndjson"
    for partition in (0, 1):
        for record in reversed(await world.produce(3, partition=partition)):
            await world.die(record)
    await export(world, path)
    for partition in (0, 1):
        trim(world, world.route.dead_letter_topic, partition, before=3)
    with FileSource.open(path, store=world.store, route=world.route, selection=Selection(from_offset=1)) as source:
        prediction = await plan_of(world, source, tmp_path / "p")
    assert (prediction.selected, prediction.to_replay) == (4, 4)
    assert await handed_out(world, tmp_path / "p") == [
        (0, b"value 1"),
        (1, b"value 2"),
        (2, b"value 4"),
        (3, b"value 5"),
    ]

    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ExportInvalidError):
        await handed_out(world, tmp_path / "p")
    path.unlink()
    await world.die((await world.produce(1))[0])
    await export(world, path)
    with pytest.raises(PlanRefusedError, match="its hash is another"):
        await handed_out(world, tmp_path / "p")
    path.unlink()
    await export(world, path, group="another")
    with (
        pytest.raises(PlanRefusedError, match="group 'another'"),
        FileSource.open(path, store=world.store, route=world.route),
    ):
        pass


async def test_dead_letters_come_in_the_order_of_the_plan_in_batches_of_bounded_bytes(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for record in reversed(await world.produce(40, value=b"x" * 1_000)):
        await world.die(record)
    await make_plan(world, tmp_path / "p")
    monkeypatch.setattr(log_letters, "FIRST", 5)
    monkeypatch.setattr(log_letters, "BATCH_BYTES", 10_000)
    with open_plan(tmp_path / "p") as plan:
        async with open_source(plan.header.source, reader=world.reader, store=world.store, route=world.route) as source:
            sizes = [len(batch) async for batch in source.letters(given(list(plan.items())))]
    assert sum(sizes) == 40
    assert sizes[0] == 5
    assert max(sizes) <= 10
    assert len(await handed_out(world, tmp_path / "p")) == 40


async def test_a_letter_that_is_gone_is_told_apart(world: World, tmp_path: Path) -> None:
    for record in await world.produce(3):
        await world.die(record)
    await make_plan(world, tmp_path / "p")
    trim(world, world.route.dead_letter_topic, 0, before=1)
    with open_plan(tmp_path / "p") as plan:
        async with open_source(plan.header.source, reader=world.reader, store=world.store, route=world.route) as source:
            found = [one async for batch in source.letters(given(list(plan.items()))) for one in batch]
    assert [letter is None for _, letter in found] == [True, False, False]


async def test_a_source_that_is_none_or_another_routes_is_refused(world: World) -> None:
    clients: dict[str, Any] = {"reader": world.reader, "store": world.store, "route": world.route}
    with pytest.raises(PlanRefusedError, match=r"records of elsewhere"):
        async with open_source({"kind": "topic", "topic": "elsewhere"}, **clients):
            pass
    with pytest.raises(PlanInvalidError):
        async with open_source({"kind": "file"}, **clients):
            pass
    async with open_source({"kind": "dead_letters", "topic": "gone"}, **clients) as source:
        with pytest.raises(PlanRefusedError, match="is gone"):
            await source.check()
