"""Handlers that ignore being cancelled lose their claim in time and are told so (I18); a worker ends without them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from orders import GROUP, place, shop, target_within

from broker_bridge import Context, Message
from broker_bridge.errors import HandlerStuckError
from broker_bridge.testing import InMemoryBridge, LoopClock, run_virtual

POLICIES: dict[str, Any] = {
    "target": target_within("10s"),
    "claims": {"lease": "3s"},
    "shutdown": {"drain": "2s", "grace": "1s"},
}
CUTOFF_MS = 10_000 + 3_000
"""The deadline and one lease."""


class Stubborn:
    """A handler that swallows every cancellation until it is let go. Notes when it first saw that its claim is lost."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.let_go = False
        self.started_ms = 0
        self.lost_ms = 0
        self.ended_tokens: list[int] = []
        self.runs: list[tuple[int, int, int]] = []

    async def handle(self, _: Message[dict[str, Any]], context: Context) -> None:
        self.runs.append((self.clock.now_ms(), context.crashes, context.token))
        if context.crashes:
            return
        self.started_ms = self.clock.now_ms()
        while not self.let_go and self.clock.now_ms() < self.started_ms + 600_000:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.1)
            if context.lost and not self.lost_ms:
                self.lost_ms = self.clock.now_ms()


def test_a_handler_past_deadline_and_lease_sees_that_it_is_lost_and_not_before() -> None:
    stubborn = Stubborn()

    async def scenario() -> None:
        async with InMemoryBridge(shop(stubborn.handle, **POLICIES)) as world:
            await place(world, 1)
            await asyncio.sleep(60)
            stubborn.let_go = True
            await world.settled()

    run_virtual(scenario())
    assert CUTOFF_MS <= stubborn.lost_ms - stubborn.started_ms <= CUTOFF_MS + 1_200


def test_the_message_of_an_overrun_handler_runs_elsewhere_under_a_larger_token_once_it_was_told() -> None:
    stubborn = Stubborn()

    async def scenario() -> None:
        async with InMemoryBridge(shop(stubborn.handle, **POLICIES), partitions=1) as world:
            await place(world, 1)
            await asyncio.sleep(1)
            (first,) = world.workers.values()
            world.start_worker("worker-2")
            first.line.polling.clear()  # its claims are renewed, but it is out of the group
            await first.evict()
            await world.settled()
            stubborn.let_go = True
            first.line.polling.set()
            await asyncio.sleep(5)
            assert world.dead_letters(GROUP) == []

    run_virtual(scenario())
    (began_ms, crashes, token), (again_ms, crashes_again, larger) = stubborn.runs
    assert (crashes, crashes_again) == (0, 1)
    assert larger > token
    assert CUTOFF_MS < again_ms - began_ms < CUTOFF_MS + 3_000 + 1_500, "held by renewals, then at once"


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_worker_ends_without_a_handler_that_does_not(concurrency: int, capfd: pytest.CaptureFixture[str]) -> None:
    stubborn = Stubborn()

    async def scenario() -> None:
        world = InMemoryBridge(shop(stubborn.handle, concurrency=concurrency, **POLICIES), partitions=1)
        async with world:
            await place(world, 1)
            await asyncio.sleep(1)
            asked_ms = world.clock.now_ms()
            with pytest.raises(HandlerStuckError, match=r"orders\.placed/0/0"):
                await world.stop_worker()
            assert 3_000 <= world.clock.now_ms() - asked_ms < 3_500, "drain and grace, no more"
            assert not any(world.log.committed.get(GROUP, {}).values()), "not known to be done, so read again"
            world.start_worker("worker-2")
            await world.settled()
            stubborn.let_go = True

    run_virtual(scenario())
    assert [crashes for _, crashes, _ in stubborn.runs] == [0, 1]
    assert "handler_stuck" in capfd.readouterr().out
