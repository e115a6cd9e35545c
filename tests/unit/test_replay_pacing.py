"""Runs that wait: for a canary, for the group, for their rate, because somebody paused them. In virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from replay_runs import copies_of, copies_per_letter, dead_records, make_plan, new_world, runner_of, virtual
from replay_world import World

from broker_bridge.core.operation import Action, Operation
from broker_bridge.core.replay_pace import PaceLimits
from broker_bridge.core.replay_state import Heading
from broker_bridge.errors import OperationUnrecordedError, PlanRefusedError, TransportError
from broker_bridge.message import Record
from broker_bridge.replay.operations_log import OperationsLog
from broker_bridge.replay.pause_orders import PauseOrders
from broker_bridge.replay.plan_file import Plan, open_plan
from broker_bridge.replay.run_record import RunRecorder
from broker_bridge.replay.run_report import RunEnd, RunReport
from broker_bridge.replay.sending import RunHooks


@pytest.fixture
def world() -> World:
    return new_world()


@asynccontextmanager
async def worker_of(
    world: World, *, dies: Callable[[Record], bool] = lambda _: False, every_ms: int = 500
) -> AsyncIterator[None]:
    """A worker that empties the lane now and then."""

    ended = asyncio.Event()

    async def work() -> None:
        while not ended.is_set():
            await world.clock.sleep_ms(every_ms)
            await world.work_redrive(dies=dies)

    working = asyncio.create_task(work())
    try:
        yield
    finally:
        ended.set()
        await working


@virtual
async def test_the_canary_goes_first_then_the_rest(world: World, tmp_path: Path) -> None:
    await dead_records(world, 20)
    await make_plan(world, tmp_path / "p")
    seen: list[tuple[int, str]] = []
    hooks = RunHooks(progress=lambda report: seen.append((report.sent, report.waits_for)))
    with open_plan(tmp_path / "p") as plan:
        async with worker_of(world):
            report = await runner_of(world).send(plan, PaceLimits(canary=3), hooks=hooks)
    assert (report.end, report.sent, report.canary) == (RunEnd.DONE, 40, 3)
    assert any(sent == 3 and reason.startswith("to see what becomes of the first") for sent, reason in seen)


@pytest.mark.parametrize("again", [False, True])
@virtual
async def test_a_canary_that_dies_again_stops_the_run_each_time(world: World, tmp_path: Path, again: bool) -> None:
    await dead_records(world, 20)
    await make_plan(world, tmp_path / "p")
    with open_plan(tmp_path / "p") as plan:
        async with worker_of(world, dies=lambda copy: copy.offset == 0):
            for _ in range(1 + again):
                report = await runner_of(world).send(plan, PaceLimits(canary=3))
                assert report.end is RunEnd.CANARY_FAILED
            assert len(await copies_of(world)) == 3
            report = await runner_of(world).send(plan, PaceLimits(canary=3, canary_failures=1))
    assert (report.end, report.sent, report.headings[Heading.SENT_BEFORE]) == (RunEnd.DONE, 37, 3)


@virtual
async def test_a_canary_nobody_works_on_stops_the_run(world: World, tmp_path: Path) -> None:
    await dead_records(world, 20)
    await make_plan(world, tmp_path / "p")
    began_ms = world.clock.now_ms()
    with open_plan(tmp_path / "p") as plan:
        report = await runner_of(world).send(plan, PaceLimits(canary=3, canary_timeout_ms=60_000))
    assert (report.end, report.sent) == (RunEnd.CANARY_UNSETTLED, 3)
    assert 60_000 <= world.clock.now_ms() - began_ms <= 61_000


@virtual
async def test_no_more_wait_for_the_group_than_may(world: World, tmp_path: Path) -> None:
    await dead_records(world, 50)
    await make_plan(world, tmp_path / "p")
    most = 0

    def watch(report: RunReport) -> None:
        nonlocal most
        committed = world.transport.log.committed.get(world.route.group, {})  # type: ignore[attr-defined]
        done = sum(offset for tp, offset in committed.items() if tp.topic == world.route.redrive_topic)
        most = max(most, report.sent - done)

    with open_plan(tmp_path / "p") as plan:
        async with worker_of(world, every_ms=300):
            report = await runner_of(world).send(plan, PaceLimits(max_in_lane=7), hooks=RunHooks(progress=watch))
    assert report.sent == 100
    assert most == 7


@virtual
async def test_a_group_that_reads_nothing_holds_it_up(world: World, tmp_path: Path) -> None:
    await dead_records(world, 50)
    await make_plan(world, tmp_path / "p")
    reasons: set[str] = set()
    hooks = RunHooks(progress=lambda report: reasons.add(report.waits_for))
    with open_plan(tmp_path / "p") as plan:
        running = asyncio.create_task(
            runner_of(world).send(plan, PaceLimits(max_in_lane=1_000, rate_per_s=2), hooks=hooks)
        )
        await world.clock.sleep_ms(60_000)
        assert 20 <= len(await copies_of(world)) <= 26, "then it stands still"
        assert any("is a worker running" in reason for reason in reasons)
        async with worker_of(world):
            assert (await running).sent == 100


@virtual
async def test_an_open_breaker_holds_it_up(world: World, tmp_path: Path) -> None:
    await dead_records(world, 5)
    await make_plan(world, tmp_path / "p")
    opened_until_ms = world.clock.now_ms() + 30_000

    async def is_away() -> bool:
        return world.clock.now_ms() < opened_until_ms

    with open_plan(tmp_path / "p") as plan:
        report = await runner_of(world).send(plan, hooks=RunHooks(target_is_away=is_away))
    assert report.sent == 10
    assert world.clock.now_ms() >= opened_until_ms


@virtual
async def test_too_many_that_die_again_end_it(world: World, tmp_path: Path) -> None:
    await dead_records(world, 200)
    await make_plan(world, tmp_path / "p")
    with open_plan(tmp_path / "p") as plan:
        async with worker_of(world, dies=lambda _: True):
            report = await runner_of(world).send(plan, PaceLimits(max_in_lane=100))
    assert report.end is RunEnd.TOO_MANY_DEAD
    assert report.died >= 20
    assert report.sent <= 300


@virtual
async def test_after_a_long_wait_the_claims_are_looked_up_again(world: World, tmp_path: Path) -> None:
    """What was completed or replayed elsewhere while this run waited is not sent."""
    await dead_records(world, 10)
    await make_plan(world, tmp_path / "slow")
    await world.clock.sleep_ms(1)
    await make_plan(world, tmp_path / "other")
    with open_plan(tmp_path / "slow") as slow, open_plan(tmp_path / "other") as other:
        waiting = asyncio.create_task(runner_of(world).send(slow, PaceLimits(rate_per_s=1)))
        await world.clock.sleep_ms(3_500)
        early = len(await copies_of(world))
        await runner_of(world).send(other)
        await world.work_redrive()
        report = await waiting
    assert early <= report.sent <= early + 3
    assert report.headings[Heading.ALREADY_COMPLETED] == 20 - report.sent


def recorder_of(world: World, plan: Plan, log: OperationsLog) -> RunRecorder:
    def make(action: Action, **fields) -> Operation:
        given = {name: value for name, value in fields.items() if value is not None}
        return Operation(id="o", at_ms=world.clock.now_ms(), action=action, by="ada", host="till-1", **given)

    return RunRecorder(log, make, plan)


async def recorded(log: OperationsLog) -> list[tuple[str, int | None, object]]:
    return [(one.action, one.counts.get("sent"), one.details.get("outcome")) async for one in log.read()]


@virtual
async def test_paused_and_resumed_from_another_desk(world: World, tmp_path: Path) -> None:
    await dead_records(world, 10)
    await make_plan(world, tmp_path / "p")
    log = OperationsLog(world.transport, world.reader)
    reasons: set[str] = set()
    with open_plan(tmp_path / "p") as plan:
        desk = recorder_of(world, plan, log)

        async def order(action: Action, why: str = "") -> None:
            await log.record(desk.make(action, why=why, plan_id=plan.id))

        await order(Action.REPLAY_PAUSE_REQUESTED, "of an earlier run: it does not count")
        hooks = RunHooks(
            recorder=desk, orders=PauseOrders(log, plan.id), progress=lambda report: reasons.add(report.waits_for)
        )
        running = asyncio.create_task(runner_of(world).send(plan, PaceLimits(rate_per_s=1), hooks=hooks))
        await world.clock.sleep_ms(5_000)
        await order(Action.REPLAY_PAUSE_REQUESTED, "the database is slow")
        await world.clock.sleep_ms(2_500)
        paused_at = len(await copies_of(world))
        await world.clock.sleep_ms(600_000)
        assert len(await copies_of(world)) == paused_at
        with pytest.raises(PlanRefusedError, match="ada@till-1 began it"), open_plan(tmp_path / "p") as second:
            await runner_of(world).send(second, hooks=RunHooks(recorder=recorder_of(world, second, log)))
        await order(Action.REPLAY_RESUME_REQUESTED)
        assert (await running).sent == 20
        assert "paused by ada: the database is slow" in reasons
    assert [one for one in await recorded(log) if "requested" not in one[0]] == [
        ("replay_started", None, None),
        ("replay_paused", paused_at, None),
        ("replay_ended", 20, "done"),
    ]
    assert set((await copies_per_letter(world)).values()) == {1}
    await log.stop()


@virtual
async def test_what_cannot_be_recorded_does_not_run_and_what_fails_is_recorded(world: World, tmp_path: Path) -> None:
    await dead_records(world, 3)
    await make_plan(world, tmp_path / "p")
    log = OperationsLog(world.transport, world.reader)
    faults = world.transport.log  # type: ignore[attr-defined]
    with open_plan(tmp_path / "p") as plan:
        hooks = RunHooks(recorder=recorder_of(world, plan, log))
        faults.fail_next_sends(1, TransportError("no"), topic=log.topic)
        with pytest.raises(OperationUnrecordedError):
            await runner_of(world).send(plan, hooks=hooks)
        assert await copies_of(world) == []
        faults.fail_next_sends(2, TransportError("no"), topic=world.route.redrive_topic)
        with pytest.raises(Exception, match="did not acknowledge"):
            await runner_of(world).send(plan, hooks=hooks)
    assert await recorded(log) == [("replay_started", None, None), ("replay_ended", 4, "replay_failed")]
    await log.stop()
