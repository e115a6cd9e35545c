"""One timer for many deadlines does what a scope for each does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from broker_bridge.testing import run_virtual
from broker_bridge.worker.deadlines import Deadlines


async def under(deadlines: Deadlines, seconds: float, work: Awaitable[object]) -> str:
    """How it ended: by itself, at its deadline, or by somebody else's cancellation."""
    task = asyncio.current_task()
    assert task is not None
    deadlines.enter(task, asyncio.get_running_loop().time() + seconds)
    try:
        await work
    except asyncio.CancelledError:
        overdue = deadlines.leave(task)
        return "late" if overdue and not task.cancelling() else "cancelled"
    return "late, and went on" if deadlines.leave(task) else "done"


def test_each_is_ended_at_its_own_time_and_no_other() -> None:
    async def scenario() -> None:
        loop, deadlines = asyncio.get_running_loop(), Deadlines()
        began = loop.time()
        ends: dict[int, float] = {}

        async def one(number: int) -> str:
            ended = await under(deadlines, 5.0, asyncio.sleep(3.0 if number % 2 else 60.0))
            ends[number] = loop.time() - began
            return ended

        tasks = []
        for number in range(6):
            tasks.append(asyncio.create_task(one(number)))
            await asyncio.sleep(1.0)
        assert await asyncio.gather(*tasks) == ["late", "done"] * 3
        assert [round(ends[number]) for number in range(6)] == [5, 4, 7, 6, 9, 8]

    run_virtual(scenario())


def test_after_a_quiet_time_the_timer_is_set_anew() -> None:
    async def scenario() -> None:
        deadlines = Deadlines()
        assert await under(deadlines, 1.0, asyncio.sleep(0.5)) == "done"
        await asyncio.sleep(100)
        assert await under(deadlines, 1.0, asyncio.sleep(5)) == "late"
        assert await under(deadlines, 1.0, asyncio.sleep(5)) == "late"

    run_virtual(scenario())


def test_a_cancellation_of_somebody_else_stays_one() -> None:
    async def scenario() -> None:
        deadlines = Deadlines()
        task = asyncio.create_task(under(deadlines, 5.0, asyncio.sleep(60)))
        await asyncio.sleep(1)
        task.cancel()
        assert await task == "cancelled"

        async def stubborn() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                both.cancel()  # while its deadline is being taken care of
                raise

        both = asyncio.create_task(under(deadlines, 5.0, stubborn()))
        with pytest.raises(asyncio.CancelledError):
            await both

    run_virtual(scenario())


def test_who_swallows_it_is_not_cancelled_afterwards() -> None:
    async def deaf() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(1)

    async def scenario() -> None:
        assert await under(Deadlines(), 5.0, deaf()) == "late, and went on"
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(1)

    run_virtual(scenario())


@pytest.mark.parametrize("count", [1, 50])
def test_nothing_is_kept_of_those_that_left(count: int) -> None:
    async def scenario() -> None:
        deadlines = Deadlines()
        await asyncio.gather(*(under(deadlines, 5.0, asyncio.sleep(n % 7)) for n in range(count)))
        assert not deadlines._under_way
        assert not deadlines._expired

    run_virtual(scenario())
