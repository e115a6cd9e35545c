"""Stages of a worker end when they are asked to, also where a library takes the request for its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from broker_bridge.errors import BridgeError
from broker_bridge.testing import run_virtual
from broker_bridge.worker.cancellation import endless, keep


async def swallow_then_wait(times: int) -> None:
    """What a stage does whose library loses its cancellation."""
    for _ in range(times):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    await asyncio.Event().wait()


async def ended_after_s(times: int) -> float:
    """How long a group that runs such a stage takes to end."""
    loop = asyncio.get_running_loop()
    stages = [asyncio.create_task(endless(swallow_then_wait(found), "rebuild")) for found in (0, times)]
    async with asyncio.TaskGroup() as group:
        kept = group.create_task(keep(stages, ask_again_s=2))
        await asyncio.sleep(1)
        kept.cancel()
    assert all(stage.done() for stage in stages)
    return loop.time() - 1


@pytest.mark.parametrize(("times", "within_s"), [(0, 0.1), (1, 2.1), (3, 6.1)])
def test_a_stage_whose_cancellation_is_lost_is_asked_again(times: int, within_s: float) -> None:
    async def scenario() -> float:
        async with asyncio.timeout(60):
            return await ended_after_s(times)

    assert within_s - 0.2 <= run_virtual(scenario()) <= within_s


def test_what_a_stage_says_of_its_end_is_told() -> None:
    async def stage() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise BridgeError("left something behind")

    async def scenario() -> None:
        stages = [asyncio.ensure_future(endless(stage(), "slots"))]
        task = asyncio.ensure_future(keep(stages, ask_again_s=1))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(BridgeError, match="left something behind"):
            await task

    run_virtual(scenario())


async def returns() -> None:
    await asyncio.sleep(1)


async def is_cancelled_from_inside() -> None:
    gone = asyncio.get_running_loop().create_future()
    gone.cancel()
    await gone


async def fails() -> None:
    raise BridgeError("no room")


@pytest.mark.parametrize(
    ("stage", "message"),
    [(returns, "came to an end"), (is_cancelled_from_inside, "was cancelled from inside"), (fails, "no room")],
)
def test_a_stage_that_ends_by_itself_is_an_error(stage: Callable[[], Coroutine[Any, Any, None]], message: str) -> None:
    async def scenario() -> None:
        other = asyncio.create_task(endless(swallow_then_wait(1), "slots"))
        one = asyncio.create_task(endless(stage(), "claims"))
        with pytest.raises(BridgeError, match=message):
            await keep([one, other], ask_again_s=1)
        assert other.done()

    run_virtual(scenario())
