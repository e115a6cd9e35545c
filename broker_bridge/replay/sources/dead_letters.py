"""Letters of a dead-letter topic: the route's own, or one that another system writes beside the same source topic."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from broker_bridge.clock import Clock
from broker_bridge.core.dead_letter import DeadLetter, read_dead_letter
from broker_bridge.core.foreign_letters import read_letter
from broker_bridge.core.letter_filter import DecodeFields, NotCompared
from broker_bridge.core.letters import Selection
from broker_bridge.core.replay_plan import DEAD_LETTERS
from broker_bridge.errors import PlanRefusedError, TopicMissingError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.replay.dead_letters import DeadLetters
from broker_bridge.replay.route import ReplayRoute
from broker_bridge.replay.sources.base import Candidate, Numbered
from broker_bridge.replay.sources.log import letters_of
from broker_bridge.transport.base import LogReader


class DeadLetterSource:
    """``LetterSource`` of one dead-letter topic. ``route`` is one of ``ReplayRoute.reading`` for a foreign one.

    ``decode`` is needed for selections with an expression; ``clock`` to tell foreign letters that still count.
    """

    def __init__(
        self,
        *,
        reader: LogReader,
        store: IdempotencyStore,
        route: ReplayRoute,
        selection: Selection | None = None,
        decode: DecodeFields | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._reader = reader
        self._route = route
        self._selection = selection or Selection()
        self._letters = DeadLetters(reader=reader, store=store, route=route, decode=decode, clock=clock)
        self._until: dict[str, int] = {}

    @property
    def described(self) -> Mapping[str, Any]:
        """See ``LetterSource.described``."""
        return {"kind": DEAD_LETTERS, "topic": self._route.dead_letter_topic}

    @property
    def selection(self) -> Mapping[str, Any]:
        """See ``LetterSource.selection``."""
        return self._selection.as_json()

    @property
    def not_compared(self) -> NotCompared:
        """What an expression could not look at."""
        return self._letters.not_compared

    async def until(self) -> dict[str, int]:
        """See ``LetterSource.until``."""
        return self._until

    async def select(self) -> AsyncGenerator[list[Candidate], None]:
        """See ``LetterSource.select``."""
        bounds = await self._letters.ends()
        self._until = {str(tp.partition): after for tp, (_, after) in sorted(bounds.items())}
        async with aclosing(self._letters.browse(self._selection, bounds=bounds)) as batches:
            async for batch in batches:
                yield [Candidate(letter, state, claim) for letter, state, claim in batch]

    def letters(
        self, wanted: AsyncIterator[Sequence[Numbered]]
    ) -> AsyncGenerator[list[tuple[Numbered, DeadLetter | None]], None]:
        """See ``LetterSource.letters``."""
        read = read_letter if self._route.reads_foreign else read_dead_letter
        return letters_of(wanted, reader=self._reader, topic=self._route.dead_letter_topic, read=read)

    async def check(self) -> None:
        """See ``LetterSource.check``."""
        await check_topic(self._reader, self._route.dead_letter_topic)


async def check_topic(reader: LogReader, topic: str) -> None:
    """Raise ``PlanRefusedError`` where the topic is gone."""
    try:
        await reader.offsets([topic])
    except TopicMissingError as error:
        raise PlanRefusedError(f"a topic of the plan is gone: {error.detail}", where=error.where) from error
