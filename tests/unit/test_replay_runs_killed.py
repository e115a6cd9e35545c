"""I17: a run that is killed anywhere and begun again equals one run; and two of a plan never run at once."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from replay_runs import copies_per_letter, dead_records, make_plan, new_world, runner_of, status_of, virtual
from replay_world import World

from broker_bridge.core.replay_pace import PaceLimits
from broker_bridge.errors import BridgeError, PlanRefusedError, ReplayError
from broker_bridge.idempotency.memory import Failure
from broker_bridge.replay.plan_file import Plan, open_plan
from broker_bridge.replay.run_lease import LEASE_MS, RunLease
from broker_bridge.replay.runner import ReplayRunner
from broker_bridge.replay.sending import RunHooks
from broker_bridge.testing.lifeline import Lifeline, ProducerLine, ReaderLine, StoreLine
from broker_bridge.testing.virtual_time import run_virtual

CANARY = PaceLimits(canary=2)


@pytest.fixture
def world() -> World:
    return new_world()


@dataclass
class CutAt:
    """Cuts a process off around its n-th call: before it is applied, or before its answer comes."""

    call: int
    applied: bool
    seen: int = 0

    async def before(self, line: Lifeline, _call: str) -> None:
        self.seen += 1
        if self.seen == self.call and not self.applied:
            line.cut_off()

    async def after(self, line: Lifeline, _call: str) -> None:
        if self.seen >= self.call and self.applied:
            line.cut_off()


def process_of(world: World, interference: CutAt) -> ReplayRunner:
    """A runner in a process of its own, which may be cut off."""
    line = Lifeline("desk", world.transport, None, interference)
    return runner_of(
        world,
        batch=3,
        reader=ReaderLine(line, world.reader),
        producer=ProducerLine(line, world.producer),
        store=StoreLine(line, world.store),
    )


async def killed_then_run_again(world: World, plan: Plan, cut: CutAt) -> bool:
    """Whether it was cut off; a worker works all the while, and the plan ends as one run would have."""
    was_cut = False
    ended = asyncio.Event()
    work = asyncio.create_task(work_on(world, ended))
    try:
        try:
            await process_of(world, cut).send(plan, CANARY)
        except BridgeError:
            was_cut = True
        began_ms = world.clock.now_ms()
        again = await runner_of(world, batch=3).send(plan, CANARY)
        assert world.clock.now_ms() - began_ms <= LEASE_MS + 2_000, "as soon as the lease has run out"
    finally:
        ended.set()
        await work
    await world.work_redrive()
    assert again.sent + again.sent_before == 8
    assert set((await copies_per_letter(world)).values()) == {1}
    assert (await status_of(world).read(plan)).counts == {"completed": 8}
    return was_cut


async def work_on(world: World, ended: asyncio.Event) -> None:
    while not ended.is_set():
        await world.clock.sleep_ms(300)
        await world.work_redrive()


@pytest.mark.parametrize("applied", [False, True])
def test_killed_around_any_call_and_run_again_equals_one_run(tmp_path: Path, applied: bool) -> None:
    async def scenario(world: World, path: Path, call: int) -> bool:
        await world.start()
        await dead_records(world, 4)
        await make_plan(world, path)
        with open_plan(path) as plan:
            return await killed_then_run_again(world, plan, CutAt(call, applied))

    calls = 0
    while run_virtual(scenario(new_world(), tmp_path / f"p{calls}", calls + 1)):
        calls += 1
    assert calls >= 15, "it was killed at every call of the run"


@virtual
async def test_cancelled_at_any_step_and_run_again_equals_one_run(world: World, tmp_path: Path) -> None:
    """Ctrl-C twice: the task is cancelled wherever it is suspended; it still lets go of its lease."""
    await dead_records(world, 20)
    await make_plan(world, tmp_path / "p")
    loop = asyncio.get_running_loop()
    with open_plan(tmp_path / "p") as plan:
        for steps in range(1, 60, 2):
            task = asyncio.create_task(runner_of(world, batch=2).send(plan))
            loop.interrupt(steps, task.cancel)  # type: ignore[attr-defined]
            with contextlib.suppress(asyncio.CancelledError):
                await task
        began_ms = world.clock.now_ms()
        await runner_of(world).send(plan)
        assert world.clock.now_ms() == began_ms, "nobody holds it any more"
        assert set((await copies_per_letter(world)).values()) == {1}
        assert await world.work_redrive() == (40, 0, 0)


@virtual
async def test_a_second_run_is_refused_while_the_first_goes_on(world: World, tmp_path: Path) -> None:
    await dead_records(world, 30)
    await make_plan(world, tmp_path / "p")
    waited: list[int] = []
    with open_plan(tmp_path / "p") as one, open_plan(tmp_path / "p") as two:
        first = asyncio.create_task(runner_of(world).send(one, PaceLimits(rate_per_s=1)))
        await world.clock.sleep_ms(100)
        began_ms = world.clock.now_ms()
        with pytest.raises(PlanRefusedError, match="another run of this plan is going on"):
            await runner_of(world).send(two, hooks=RunHooks(waiting=waited.append))
        assert world.clock.now_ms() - began_ms < LEASE_MS
        assert 0 < max(waited) <= LEASE_MS
        assert (await first).sent == 60
        assert (await runner_of(world).send(two)).sent == 0
    assert set((await copies_per_letter(world)).values()) == {1}


@virtual
async def test_a_run_that_stood_still_beyond_its_lease_sends_nothing_more(world: World, tmp_path: Path) -> None:
    """SIGSTOP: the second run took over, and the first finds out before its next send."""

    class Asleep:
        """A store that its run does not reach for a while: its renewals stand still."""

        def __getattr__(self, name: str):
            return getattr(world.store, name)

        async def renew(self, *_args: object, **_named: object) -> list[bool]:
            await world.clock.sleep_ms(10 * LEASE_MS)
            return [False]

    await dead_records(world, 30)
    await make_plan(world, tmp_path / "p")
    with open_plan(tmp_path / "p") as one, open_plan(tmp_path / "p") as two:
        stopped = asyncio.create_task(
            runner_of(world, store=Asleep()).send(one, PaceLimits(rate_per_s=1))  # type: ignore[arg-type]
        )
        await world.clock.sleep_ms(LEASE_MS - 100)
        other = await runner_of(world).send(two)
        assert other.sent + other.sent_before == 60
        with pytest.raises(ReplayError, match="took over"):
            await stopped
    assert set((await copies_per_letter(world)).values()) == {1}


@virtual
async def test_a_lease_outlasts_renewals_that_fail(world: World) -> None:
    lease = RunLease(world.store, world.clock, group="g", plan_id="rp-1")
    async with lease.held():
        for _ in range(4):
            world.store.fail_next(2, how=Failure.NOT_APPLIED)  # type: ignore[attr-defined]
            await world.clock.sleep_ms(LEASE_MS)
            await lease.check()
        with pytest.raises(PlanRefusedError):
            async with RunLease(world.store, world.clock, group="g", plan_id="rp-1").held():
                pass
        async with RunLease(world.store, world.clock, group="g", plan_id="rp-2").held():
            pass
