"""To have waited is not to have been tried: a parked message is tried as often, and as far apart, as any other."""

from __future__ import annotations

import asyncio
from typing import Any

from orders import GROUP, place, shop

from broker_bridge import Context, Message
from broker_bridge.testing import InMemoryBridge, LoopClock, run_virtual


def test_who_parked_has_the_attempts_and_the_waits_of_one_that_never_did() -> None:
    """The second message parks in the last lane behind the first, which is tried four times; then it fails as often."""
    seen: list[tuple[str, int, int]] = []
    clock = LoopClock()

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        seen.append((message.value["order_id"], context.attempt, clock.now_ms()))
        if message.value["order_id"] != "o-0003" and context.attempt < 4:
            raise ValueError("not yet")

    async def scenario() -> None:
        policies = {"retry": {"in_place": 2, "base": "100ms", "jitter": 0, "lanes": ["5s", "1m"]}}
        async with InMemoryBridge(shop(handle, **policies)) as world:
            await place(world, 1)
            await asyncio.sleep(20)
            await place(world, 2, 3)
            await world.settled()
            assert world.dead_letters(GROUP) == []

    run_virtual(scenario())
    assert [(found, attempt) for found, attempt, _ in seen] == [
        *(("o-0001", n) for n in (1, 2, 3, 4)),
        *(("o-0002", n) for n in (1, 2, 3, 4)),
        ("o-0003", 1),
    ]
    times = {(found, attempt): at_ms for found, attempt, at_ms in seen}
    for found in ("o-0001", "o-0002"):
        waits = [times[found, n + 1] - times[found, n] for n in (1, 2, 3)]
        assert [wait // planned for wait, planned in zip(waits, (100, 5_000, 60_000), strict=True)] == [1, 1, 1]
