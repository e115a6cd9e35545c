"""What a replay needs of the place that its letters come from: choose them when it is planned, hand them out when it
runs.

Three implementations: ``sources.dead_letters``, ``sources.topic`` (records of the route's source topic, as they were
produced), ``sources.file`` (an export). ``open_source`` makes the one that a plan was made from.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from broker_bridge.core.claim import ClaimView
from broker_bridge.core.dead_letter import DeadLetter
from broker_bridge.core.letters import LetterState
from broker_bridge.core.replay_plan import PlanItem


class Candidate(NamedTuple):
    """A letter that was selected: what became of it, the stored claim of its key, and ``PlanItem.at``.

    ``is_pending``: the group has not consumed it yet and will come to it by itself.
    """

    letter: DeadLetter
    state: LetterState
    claim: ClaimView | None
    at: int = -1
    is_pending: bool = False


class Numbered(NamedTuple):
    """An item and its number in the plan, from 0."""

    number: int
    item: PlanItem


class LetterSource(Protocol):
    """Where letters come from. Its clients are started by the caller.

    Every call may raise ``TransportError``, ``StoreError`` (``select`` only) or a ``ReplayError``.
    """

    @property
    def described(self) -> Mapping[str, Any]:
        """The plan's ``source``."""

    @property
    def selection(self) -> Mapping[str, Any]:
        """The plan's ``selection``: the filters as given."""

    async def until(self) -> dict[str, int]:
        """The next offset of each partition, as it was when ``select`` began; empty for a file."""

    def select(self) -> AsyncGenerator[list[Candidate], None]:
        """The letters that are meant, in batches, in one pass and in the order of the source; bounded memory."""

    def letters(
        self, wanted: AsyncIterator[Sequence[Numbered]]
    ) -> AsyncGenerator[list[tuple[Numbered, DeadLetter | None]], None]:
        """The letters of these items, in the order asked, in batches of the source's own size; None where there is no
        record any more.

        Reads ahead of who takes the batches, within bounded memory: ``wanted`` is drained as far as one batch further.
        Whether a letter is the one that was planned is for the caller to see (``core.replay_plan.difference``).
        ``aclose`` it.
        """

    async def check(self) -> None:
        """Raise ``PlanRefusedError`` where the source is gone: before anything is sent, and quick."""
