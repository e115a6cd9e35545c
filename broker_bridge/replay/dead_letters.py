"""Browsing the dead letters of a route: each with what became of its message since."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

from broker_bridge.core.claim import ClaimView
from broker_bridge.core.dead_letter import DeadLetter, read_dead_letter
from broker_bridge.core.identity import claim_key
from broker_bridge.core.letters import LetterState, Selection, letter_state
from broker_bridge.core.replay_plan import key_hash
from broker_bridge.errors import NotFoundError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.message import Position, TopicPartition
from broker_bridge.replay.claims import with_claims
from broker_bridge.replay.route import ReplayRoute
from broker_bridge.transport.base import LogReader

DISTINCT_KEYS_COUNTED = 1_000
"""Up to here a group's different record keys are counted exactly; beyond it says so instead of a number."""


class BrowsedLetter(NamedTuple):
    """A dead letter, what became of it, and the stored claim of its key."""

    letter: DeadLetter
    state: LetterState
    claim: ClaimView | None


@dataclass(slots=True)
class LetterGroup:
    """Dead letters of one kind of failure. Times in ms since the epoch; ``keys`` is bounded."""

    fingerprint: str
    code: str
    target_code: str
    count: int = 0
    first_ms: int = 0
    last_ms: int = 0
    example: Position | None = None
    states: Counter[LetterState] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)

    def add(self, browsed: BrowsedLetter) -> None:
        """Count one more letter of this kind; the example is the newest that still waits, else the newest."""
        failure = browsed.letter.failure
        self.first_ms = min(self.first_ms or failure.first_ms, failure.first_ms)
        self.last_ms = max(self.last_ms, failure.last_ms)
        self.count += 1
        if len(self.keys) <= DISTINCT_KEYS_COUNTED:
            self.keys.add(key_hash(browsed.letter.key))
        waits = browsed.state in (LetterState.WAITING, LetterState.DEAD_AGAIN)
        if waits or not self.waiting:
            self.example = browsed.letter.position
        self.states[browsed.state] += 1

    @property
    def waiting(self) -> int:
        """How many still wait for somebody."""
        return self.states[LetterState.WAITING] + self.states[LetterState.DEAD_AGAIN]

    @property
    def distinct_keys(self) -> str:
        """How many different record keys, ``1000+`` beyond the bound."""
        found = len(self.keys)
        return str(found) if found <= DISTINCT_KEYS_COUNTED else f"{DISTINCT_KEYS_COUNTED}+"


class DeadLetters:
    """The dead letters of one route. ``reader`` and ``store`` are started by the caller."""

    def __init__(self, *, reader: LogReader, store: IdempotencyStore, route: ReplayRoute) -> None:
        self._reader = reader
        self._store = store
        self._route = route

    async def ends(self) -> dict[TopicPartition, tuple[int, int]]:
        """First and next offset of each dead-letter partition. Raises ``TopicMissingError``."""
        return await self._reader.offsets([self._route.dead_letter_topic])

    async def browse(
        self, selection: Selection, *, bounds: dict[TopicPartition, tuple[int, int]] | None = None
    ) -> AsyncGenerator[list[BrowsedLetter], None]:
        """The letters that ``selection`` means, in batches, each partition in the order of its log.

        ``bounds`` (first, next offset) limits what is read; by default all that is there when the call begins.
        """
        bounds = bounds if bounds is not None else await self.ends()
        wanted = {tp: b for tp, b in bounds.items() if selection.partition in (None, tp.partition)}
        letters = self._letters(selection, wanted)
        looked_up = with_claims(letters, key_of=self.claim_key_of, store=self._store, group=self._route.group)
        async with aclosing(letters), aclosing(looked_up):
            async for batch in looked_up:
                browsed = [BrowsedLetter(letter, letter_state(letter, claim), claim) for letter, claim in batch]
                yield [one for one in browsed if selection.matches_state(one.state)]

    async def groups(self, selection: Selection) -> list[LetterGroup]:
        """The letters by kind of failure, those with most waiting first."""
        groups: dict[str, LetterGroup] = {}
        async for batch in self.browse(selection):
            for browsed in batch:
                failure = browsed.letter.failure
                known = groups.get(failure.fingerprint)
                if known is None:
                    known = LetterGroup(failure.fingerprint, failure.code, failure.target_code)
                    groups[failure.fingerprint] = known
                known.add(browsed)
        return sorted(groups.values(), key=lambda group: (-group.waiting, -group.count, group.fingerprint))

    async def show(self, partition: int, offset: int) -> BrowsedLetter:
        """One letter by its place in the dead-letter topic. Raises ``NotFoundError``."""
        position = Position(self._route.dead_letter_topic, partition, offset)
        bounds = (await self.ends()).get(TopicPartition(position.topic, partition))
        record = (await self._reader.fetch([position]))[0] if bounds else None
        if record is None:
            within = f"the partition holds offsets {bounds[0]} to {bounds[1] - 1}" if bounds else "no such partition"
            raise NotFoundError(
                f"there is no dead letter at this place ({within})",
                where=str(position),
                remedy="broker-bridge dlq list shows the places",
            )
        letter = read_dead_letter(record)
        claim = (await self._store.inspect(self._route.group, [self.claim_key_of(letter)]))[0]
        return BrowsedLetter(letter, letter_state(letter, claim), claim)

    def claim_key_of(self, letter: DeadLetter) -> bytes:
        """The key of the claim that decides what became of a letter."""
        return claim_key(letter.idempotency_key, namespace=self._route.topic)

    async def _letters(
        self, selection: Selection, bounds: dict[TopicPartition, tuple[int, int]]
    ) -> AsyncGenerator[Sequence[DeadLetter], None]:
        start = {tp: first for tp, (first, _) in bounds.items()}
        end = {tp: after for tp, (_, after) in bounds.items()}
        async for records in self._reader.read(start, end):
            letters = map(read_dead_letter, records)
            yield [letter for letter in letters if selection.matches(letter)]
