"""Wakes are not lost, not spent on those who are gone, and leave nothing behind."""

from __future__ import annotations

import asyncio

import pytest

from broker_bridge.worker.signal import WorkSignal


async def settled() -> None:
    """Let every task that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def waiting(signal: WorkSignal, count: int) -> list[asyncio.Task[None]]:
    """So many tasks that wait."""
    return [asyncio.create_task(signal.wait()) for _ in range(count)]


async def ended(tasks: list[asyncio.Task[None]]) -> list[bool]:
    """Which of the tasks came through; the others are ended."""
    await settled()
    found = [task.done() for task in tasks]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return found


async def test_wakes_as_many_as_asked_in_the_order_they_came() -> None:
    signal = WorkSignal()
    tasks = waiting(signal, 4)
    await settled()
    signal.wake(2)
    assert await ended(tasks) == [True, True, False, False]


async def test_a_wake_without_waiters_is_not_remembered() -> None:
    signal = WorkSignal()
    signal.wake(3)
    assert await ended(waiting(signal, 1)) == [False]


async def test_a_cancelled_waiter_takes_no_wake() -> None:
    signal = WorkSignal()
    tasks = waiting(signal, 2)
    await settled()
    tasks[0].cancel()
    await settled()
    signal.wake()
    assert await ended(tasks) == [True, True]
    assert tasks[0].cancelled()
    assert not tasks[1].cancelled()


async def test_a_wake_right_after_a_cancellation_goes_to_the_next() -> None:
    signal = WorkSignal()
    tasks = waiting(signal, 2)
    await settled()
    tasks[0].cancel()
    signal.wake()
    assert await ended(tasks) == [True, True]
    assert tasks[0].cancelled()
    assert not tasks[1].cancelled()


async def test_who_is_cancelled_after_the_wake_hands_it_on() -> None:
    signal = WorkSignal()
    tasks = waiting(signal, 2)
    await settled()
    signal.wake()
    tasks[0].cancel()
    assert await ended(tasks) == [True, True]
    assert tasks[0].cancelled()
    assert not tasks[1].cancelled()


async def test_a_timeout_returns_and_leaves_nothing_behind() -> None:
    signal = WorkSignal()
    for _ in range(50):
        await signal.wait(0.01)
    assert not signal._waiters


async def test_a_wake_after_a_timeout_goes_to_one_who_still_waits() -> None:
    signal = WorkSignal()
    await signal.wait(0.01)
    tasks = waiting(signal, 1)
    await settled()
    signal.wake()
    assert await ended(tasks) == [True]
    assert not tasks[0].cancelled()


async def test_cancelling_leaves_nothing_behind() -> None:
    signal = WorkSignal()
    task = asyncio.create_task(signal.wait())
    await settled()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not signal._waiters
