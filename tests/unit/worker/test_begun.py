"""A coroutine that was begun at once goes on as if it had been awaited from the start."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from broker_bridge.testing import run_virtual
from broker_bridge.worker.begun import Begun, begin

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def _value(waits: int) -> str:
    for number in range(waits):
        await asyncio.sleep(number)
    return "done"


async def _outcome(coroutine: Any) -> Any:
    begun = begin(coroutine)
    return await begun if isinstance(begun, Begun) else begun


def test_what_never_waits_is_done_at_once() -> None:
    assert begin(_value(0)) == "done"


@pytest.mark.parametrize("waits", [1, 2, 5])
def test_what_waits_goes_on_when_awaited(waits: int) -> None:
    async def scenario() -> tuple[bool, Any]:
        begun = begin(_value(waits))
        return isinstance(begun, Begun), await begun

    assert run_virtual(scenario()) == (True, "done")


@pytest.mark.parametrize("waits", [0, 1, 3])
def test_what_it_raises_comes_out_at_either_step(waits: int) -> None:
    async def fails() -> None:
        await _value(waits)
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        run_virtual(_outcome(fails()))


def test_a_timeout_around_the_rest_reaches_the_coroutine_and_it_may_clean_up() -> None:
    seen: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.1)
            seen.append("cleaned up")

    async def scenario() -> None:
        begun = begin(slow())
        async with asyncio.timeout(1):
            await begun

    with pytest.raises(TimeoutError):
        run_virtual(scenario())
    assert seen == ["cleaned up"]


def test_an_own_timeout_inside_is_told_from_the_one_around_it() -> None:
    async def gives_up_early() -> str:
        try:
            async with asyncio.timeout(1):
                await asyncio.sleep(60)
        except TimeoutError:
            return "its own"
        return "none"

    async def scenario() -> str:
        begun = begin(gives_up_early())
        async with asyncio.timeout(5):
            return str(await begun)

    assert run_virtual(scenario()) == "its own"


def test_a_cancellation_goes_through_and_may_be_swallowed() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "swallowed"
        return "slept"

    async def scenario() -> str:
        task = asyncio.create_task(_outcome(stubborn()))
        await asyncio.sleep(1)
        task.cancel()
        return str(await task)

    assert run_virtual(scenario()) == "swallowed"


def test_it_runs_in_the_task_and_the_context_of_who_began_it() -> None:
    async def looks() -> list[object]:
        before = asyncio.current_task(), VARIABLE.get()
        await asyncio.sleep(1)
        async with asyncio.TaskGroup() as group:  # needs a task of its own to report to
            group.create_task(asyncio.sleep(1))
        return [before, (asyncio.current_task(), VARIABLE.get())]

    async def scenario() -> None:
        VARIABLE.set("mine")
        expected = asyncio.current_task(), "mine"
        assert await _outcome(looks()) == [expected, expected]

    run_virtual(scenario())


def test_leaving_it_unfinished_closes_it() -> None:
    closed: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            closed.append("closed")

    async def scenario() -> None:
        rest = begin(waits()).__await__()
        next(rest)
        rest.close()

    run_virtual(scenario())
    assert closed == ["closed"]
