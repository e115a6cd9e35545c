"""Browsing the dead letters of a route: each with what became of its message since.

Another dead-letter topic can be browsed as the route's (``ReplayRoute.reading``): one that Kafka Connect, Kafka
Streams, a share group or Spring writes beside the same source topic.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NamedTuple

from broker_bridge.clock import Clock
from broker_bridge.core.claim import ClaimState, ClaimView
from broker_bridge.core.dead_letter import DeadLetter, read_dead_letter
from broker_bridge.core.foreign_letters import KEEPS_HEADERS, lacks_payload, read_letter
from broker_bridge.core.identity import claim_key
from broker_bridge.core.letter_filter import DecodeFields, NotCompared, Verdict, where_of
from broker_bridge.core.letter_groups import LetterGroup, LetterGroups
from broker_bridge.core.letters import LetterState, Selection, letter_state
from broker_bridge.errors import NotFoundError, UsageError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.message import Position, TopicPartition
from broker_bridge.replay.claims import with_claims
from broker_bridge.replay.route import ReplayRoute
from broker_bridge.transport.base import LogReader

Bounds = dict[TopicPartition, tuple[int, int]]
"""First and next offset of partitions."""


class BrowsedLetter(NamedTuple):
    """A dead letter, what became of it, and the stored claim of its key."""

    letter: DeadLetter
    state: LetterState
    claim: ClaimView | None


class DeadLetters:
    """The dead letters of one route. ``reader`` and ``store`` are started by the caller.

    ``decode`` is needed for selections with an expression. With ``clock`` a letter of another system that this group
    never took counts as waiting as long as a claim would still be remembered; without, its state is unknown. With
    ``whoever`` letters are browsed that cannot be brought home by this route: of other source topics, or without their
    payload; otherwise they are counted. ``not_compared`` counts what was not looked at.
    """

    def __init__(
        self,
        *,
        reader: LogReader,
        store: IdempotencyStore,
        route: ReplayRoute,
        decode: DecodeFields | None = None,
        clock: Clock | None = None,
        whoever: bool = False,
    ) -> None:
        self._reader = reader
        self._store = store
        self._route = route
        self._decode = decode
        self._clock = clock
        self._whoever = whoever
        self._is_foreign = route.reads_foreign
        self._read = read_letter if route.reads_foreign else read_dead_letter
        self._partitions = 0
        self.not_compared = NotCompared()

    async def ends(self) -> Bounds:
        """First and next offset of each dead-letter partition. Raises ``TopicMissingError``."""
        return await self._reader.offsets([self._route.dead_letter_topic])

    async def browse(
        self, selection: Selection, *, bounds: Bounds | None = None
    ) -> AsyncGenerator[list[BrowsedLetter], None]:
        """The letters that ``selection`` means, in batches, each partition in the order of its log.

        ``bounds`` (first, next offset) limits what is read; by default all that is there when the call begins. Raises
        ``UsageError`` for an expression where values cannot be decoded.
        """
        any_state = not selection.states
        async with aclosing(self._looked_up(selection, bounds)) as looked_up:
            async for batch in looked_up:
                browsed = [BrowsedLetter(letter, self._state(letter, claim), claim) for letter, claim in batch]
                yield browsed if any_state else [one for one in browsed if selection.matches_state(one.state)]

    async def groups(self, selection: Selection) -> list[LetterGroup]:
        """The letters by kind of failure, those with most waiting first."""
        groups = LetterGroups()
        add, state_of, any_state = groups.add, self._state, not selection.states
        async with aclosing(self._looked_up(selection, None)) as looked_up:
            async for batch in looked_up:
                for letter, claim in batch:
                    state = state_of(letter, claim)
                    if any_state or selection.matches_state(state):
                        add(letter, state)
        return groups.most_waiting_first()

    async def _looked_up(
        self, selection: Selection, bounds: Bounds | None
    ) -> AsyncGenerator[list[tuple[DeadLetter, ClaimView | None]], None]:
        """Those that are meant whatever their state, each with the claim of its key."""
        if selection.where and self._decode is None:
            raise UsageError("values are not decoded here, so that --where cannot look at them", where="--where")
        wanted = self._wanted(selection, bounds if bounds is not None else await self.ends())
        if self._is_foreign:
            self._partitions = len(await self._reader.offsets([self._route.topic]))
        letters = self._letters(selection, wanted)
        looked_up = with_claims(letters, key_of=self.claim_key_of, store=self._store, group=self._route.group)
        async with aclosing(letters), aclosing(looked_up):
            async for batch in looked_up:
                yield batch

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
        letter = self._read(record)
        claim = (await self._store.inspect(self._route.group, [self.claim_key_of(letter)]))[0]
        return BrowsedLetter(letter, self._state(letter, claim), claim)

    def claim_key_of(self, letter: DeadLetter) -> bytes:
        """The key of the claim that decides what became of a letter."""
        return claim_key(letter.idempotency_key, namespace=self._route.topic)

    def _state(self, letter: DeadLetter, claim: ClaimView | None) -> LetterState:
        """As ``letter_state``; a claim knows only places in the route's own dead-letter topic."""
        if not self._is_foreign:
            return letter_state(letter, claim)
        if claim is None:
            return LetterState.WAITING if self._never_taken(letter) else LetterState.UNKNOWN
        return LetterState.SUPERSEDED if claim.state is ClaimState.DEAD else letter_state(letter, claim)

    def _never_taken(self, letter: DeadLetter) -> bool:
        """Whether no claim means that the group never took this message: it has the identity it was produced with, and
        is younger than what is remembered."""
        if self._clock is None or letter.writer not in KEEPS_HEADERS:
            return False
        return letter.timestamp_ms > self._clock.now_ms() - self._route.claim_ttl_ms

    def _wanted(self, selection: Selection, bounds: Bounds) -> Bounds:
        """What must be read. Our own dead letters are in the partition of their origin."""
        partition = None if self._is_foreign else selection.partition
        wanted: Bounds = {}
        for tp, (first, after) in bounds.items():
            start = max(first, selection.letter_from or 0)
            end = after if selection.letter_to is None else min(after, selection.letter_to)
            if partition in (None, tp.partition) and start < end:
                wanted[tp] = (start, end)
        return wanted

    async def _letters(self, selection: Selection, bounds: Bounds) -> AsyncGenerator[Sequence[DeadLetter], None]:
        start = {tp: first for tp, (first, _) in bounds.items()}
        end = {tp: after for tp, (_, after) in bounds.items()}
        read, tests, where = self._read, selection.tests(), selection.where
        if self._is_foreign and not self._whoever:
            tests.append(self._comes_home)
        async for records in self._reader.read(start, end):
            letters = [read(record) for record in records]
            for test in tests:
                letters = [letter for letter in letters if test(letter)]
            yield self._meant(letters, where) if where else letters

    def _meant(self, letters: list[DeadLetter], expression: str) -> list[DeadLetter]:
        where, decode, meant = where_of(expression), self._decode, []
        assert decode is not None  # as browse has seen to
        for letter in letters:
            judged = where.judge(letter, decode)
            if judged.verdict is Verdict.YES:
                meant.append(letter)
            elif judged.error is not None:
                self.not_compared.count(letter, judged)
        return meant

    def _comes_home(self, letter: DeadLetter) -> bool:
        topic, partition, _ = letter.origin
        if topic == self._route.topic and partition < self._partitions and not lacks_payload(letter):
            return True
        self.not_compared.elsewhere += 1
        return False
