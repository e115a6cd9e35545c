"""Looking up the claims of many things at once, several round trips in flight."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import TypeVar

from broker_bridge.core.claim import ClaimView
from broker_bridge.idempotency.base import IdempotencyStore

T = TypeVar("T")

BATCH = 250
"""Claims asked for in one round trip. What waits for its claim should still be in the processor's cache afterwards."""
IN_FLIGHT = 2
"""Round trips that may be on their way while the log is read on."""


async def with_claims(
    source: AsyncIterator[Sequence[T]], *, key_of: Callable[[T], bytes], store: IdempotencyStore, group: str
) -> AsyncGenerator[list[tuple[T, ClaimView | None]], None]:
    """Each thing with the claim stored under its key, in the order of ``source``, bounded memory."""
    waiting: deque[asyncio.Task[list[tuple[T, ClaimView | None]]]] = deque()

    async def look_up(things: list[T]) -> list[tuple[T, ClaimView | None]]:
        return list(zip(things, await store.inspect(group, [key_of(thing) for thing in things]), strict=True))

    try:
        async for things in regroup(source, size=BATCH):
            waiting.append(asyncio.create_task(look_up(things)))
            if len(waiting) >= IN_FLIGHT:
                yield await waiting.popleft()
        while waiting:
            yield await waiting.popleft()
    finally:
        # Let them end rather than cancel them: a command cut off in the middle can spoil its connection.
        await asyncio.gather(*waiting, return_exceptions=True)


async def regroup(source: AsyncIterator[Sequence[T]], *, size: int) -> AsyncIterator[list[T]]:
    """The same things in lists of ``size``; only the last may be shorter."""
    held: list[T] = []
    async for things in source:
        held.extend(things)
        while len(held) >= size:
            yield held[:size]
            del held[:size]
    if held:
        yield held
