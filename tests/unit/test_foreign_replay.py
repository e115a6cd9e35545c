"""Dead letters of another system brought home through the route's own redrive lane."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_runs import new_world, plan_of, runner_of, virtual
from replay_world import World

from broker_bridge.core.replay_state import Heading
from broker_bridge.errors import PlanRefusedError
from broker_bridge.message import Header, OutgoingRecord, Record
from broker_bridge.replay.plan_file import open_plan
from broker_bridge.replay.run_report import RunReport
from broker_bridge.replay.sources import DeadLetterSource
from broker_bridge.transport.base import TopicSpec

TOPIC = "connect-dlq"


@pytest.fixture
def world() -> World:
    return new_world()


async def written_by_connect(world: World, record: Record) -> None:
    told = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "exception.class.name": "a.B",
    }
    headers: list[Header] = [(f"__connect.errors.{name}", str(text).encode()) for name, text in told.items()]
    await world.transport.admin().ensure([TopicSpec(TOPIC, 1)])
    letter = OutgoingRecord(TOPIC, record.value, record.key, [*record.headers, *headers], 0, world.clock.now_ms())
    await world.write([letter])


async def planned(world: World, path: Path) -> int:
    source = DeadLetterSource(
        reader=world.reader, store=world.store, route=world.route.reading(TOPIC), clock=world.clock
    )
    return (await plan_of(world, source, path)).to_replay


async def ran(world: World, path: Path) -> RunReport:
    with open_plan(path) as plan:
        return await runner_of(world).send(plan)


@virtual
async def test_a_message_that_the_group_never_took_comes_home_once(world: World, tmp_path: Path) -> None:
    fresh, done = await world.produce(2, partition=1)
    await world.complete(done)
    for record in (fresh, done):
        await written_by_connect(world, record)
    path = tmp_path / "a.plan"
    assert await planned(world, path) == 1
    for sent in (1, 0):
        report = await ran(world, path)
        assert report.sent == sent
    (copy,) = await world.read_all(world.route.redrive_topic)
    assert (copy.partition, copy.key, copy.value) == (fresh.partition, fresh.key, fresh.value)
    assert [header for header in copy.headers if not header[0].startswith("bridge-")] == list(fresh.headers)
    assert await world.complete(copy)
    assert not await world.complete(fresh), "the message itself, read late, is the same one"
    assert await planned(world, tmp_path / "b.plan") == 0


@virtual
async def test_what_was_handled_since_is_not_sent(world: World, tmp_path: Path) -> None:
    (fresh,) = await world.produce(1, partition=1)
    await written_by_connect(world, fresh)
    assert await planned(world, tmp_path / "a.plan") == 1
    await world.complete(fresh)
    report = await ran(world, tmp_path / "a.plan")
    assert (report.sent, report.headings[Heading.ALREADY_COMPLETED]) == (0, 1)


@virtual
async def test_an_old_plan_is_refused_for_a_claim_may_have_come_and_gone(world: World, tmp_path: Path) -> None:
    (fresh,) = await world.produce(1, partition=1)
    await written_by_connect(world, fresh)
    assert await planned(world, tmp_path / "a.plan") == 1
    await world.complete(fresh)
    await world.clock.sleep_ms(world.route.claim_ttl_ms + 60_000)
    with pytest.raises(PlanRefusedError, match="longer ago than claims are remembered"):
        await ran(world, tmp_path / "a.plan")
    assert await world.read_all(world.route.redrive_topic) == []
