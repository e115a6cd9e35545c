"""An event that comes twice, on a busy key: it is settled with its original, and holds nobody up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from orders import place, shop

from broker_bridge import Context, Message
from broker_bridge.testing import InMemoryBridge, run_virtual
from broker_bridge.worker.pipeline import Pipeline

ASKED_AGAIN_MS = 50
"""How long a busy claim waits at least before it is asked for again."""


async def played(effects: list[str], numbers: list[int]) -> float:
    """Place these orders of one customer; the answer is how long all of them took, in ms."""

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        effects.append(message.value["order_id"])

    async with InMemoryBridge(shop(handle, concurrency=1)) as world:
        await place(world, 0)
        await world.settled()
        began = asyncio.get_running_loop().time()
        await place(world, *numbers)
        await world.settled()
        assert effects == [f"o-{number:04d}" for number in sorted({0, *numbers})]
        return (asyncio.get_running_loop().time() - began) * 1000


def test_repeats_do_not_hold_their_key_up() -> None:
    each_once = run_virtual(played([], list(range(1, 21))))
    each_twice = run_virtual(played([], [number for number in range(1, 21) for _ in range(2)]))
    assert each_twice < each_once + 3 * ASKED_AGAIN_MS, "twenty repeats, and none has waited for its turn to ask"


def test_the_figure_above_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pipeline, "holder", lambda *_: None)  # nobody knows that the original is in hand
    each_twice = run_virtual(played([], [number for number in range(1, 21) for _ in range(2)]))
    assert each_twice > 10 * ASKED_AGAIN_MS
