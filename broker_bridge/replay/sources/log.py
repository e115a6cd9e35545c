"""Letters of items read from a log: in the order of the plan, a batch ahead of who takes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing

from broker_bridge.core.dead_letter import DeadLetter
from broker_bridge.message import Position, Record
from broker_bridge.replay.sources.base import Numbered
from broker_bridge.transport.base import LogReader

Found = list[tuple[Numbered, DeadLetter | None]]

FIRST, LARGEST = 500, 500
"""Items of a batch: the first, and the most. Larger ones no longer fit the processor's cache: each pass over them costs
twice as much."""
BATCH_BYTES = 8 << 20
"""About how many bytes of values a batch holds; up to three batches exist at a time."""


async def letters_of(
    wanted: AsyncIterator[Sequence[Numbered]], *, reader: LogReader, topic: str, read: Callable[[Record], DeadLetter]
) -> AsyncGenerator[Found, None]:
    """See ``LetterSource.letters``; ``read`` makes a letter of a record of ``topic``."""
    fetcher = _Fetcher(reader, topic, read)
    ahead: asyncio.Task[Found] | None = None
    try:
        async with aclosing(_batches(wanted, fetcher)) as batches:
            async for items in batches:
                due, ahead = ahead, asyncio.create_task(fetcher.fetch(items))
                if due is not None:
                    yield await due
        if ahead is not None:
            due, ahead = ahead, None
            yield await due
    finally:
        if ahead is not None:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)


class _Fetcher:
    """Fetches batches; how many items the next should have follows from the bytes of the last."""

    def __init__(self, reader: LogReader, topic: str, read: Callable[[Record], DeadLetter]) -> None:
        self._reader = reader
        self._topic = topic
        self._read = read
        self.size = FIRST

    async def fetch(self, items: list[Numbered]) -> Found:
        topic, read = self._topic, self._read
        positions = [Position(topic, item.partition, item.offset) for _, item in items]
        records = await self._reader.fetch(positions)
        held = sum(len(record.value or b"") for record in records if record is not None)
        self.size = min(LARGEST, 2 * self.size, max(1, BATCH_BYTES * len(items) // max(held, 1)))
        return [(one, None if record is None else read(record)) for one, record in zip(items, records, strict=True)]


async def _batches(
    wanted: AsyncIterator[Sequence[Numbered]], fetcher: _Fetcher
) -> AsyncGenerator[list[Numbered], None]:
    held: list[Numbered] = []
    async for items in wanted:
        held.extend(items)
        while len(held) >= (size := fetcher.size):
            yield held[:size]
            del held[:size]
    if held:
        yield held
