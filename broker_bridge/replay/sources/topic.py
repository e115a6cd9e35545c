"""Records of the route's source topic, as they were produced: to be worked on again, whatever became of them.

A record that was dead-lettered goes back as its dead letter would; what completed is skipped unless it is forced; what
the group has not come to yet is left to it. How often a message was replayed before stands in its dead letter alone, so
that nothing counts hops here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Any

from broker_bridge import headers as h
from broker_bridge.core.claim import DISCARDED_DETAIL, NO_REPLAY, STALE_DETAIL, ClaimState, ClaimView, pack_origin
from broker_bridge.core.dead_letter import DeadLetter, Failure
from broker_bridge.core.identity import claim_key, payload_fingerprint
from broker_bridge.core.letters import LetterState
from broker_bridge.core.replay_plan import TOPIC
from broker_bridge.errors import NotFoundError, PlanRefusedError, UsageError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.message import Record, TopicPartition
from broker_bridge.replay.claims import with_claims
from broker_bridge.replay.route import ReplayRoute
from broker_bridge.replay.sources.base import Candidate, Numbered
from broker_bridge.replay.sources.dead_letters import check_topic
from broker_bridge.replay.sources.log import letters_of
from broker_bridge.transport.base import LogReader

_ENDINGS = {STALE_DETAIL: LetterState.STALE, DISCARDED_DETAIL: LetterState.DISCARDED}
_NO_FAILURE = Failure(code="", error_class="", message="", target_code="", attempts=0, first_ms=0, last_ms=0)


@dataclass(slots=True, frozen=True)
class SourceRange:
    """Which records are meant: offsets of one ``partition``, times (ms since the epoch) of one or all; from inclusive,
    to and until exclusive."""

    partition: int | None = None
    from_offset: int | None = None
    to_offset: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def __post_init__(self) -> None:
        given = self.as_json()
        if not given:
            raise UsageError(
                "a replay of a topic needs a range",
                remedy='say which records: --partition 0 --from-offset 7, --since "2h"',
            )
        if self.partition is None and not given.keys().isdisjoint({"from_offset", "to_offset"}):
            raise UsageError("offsets are those of one partition", remedy="name it: --partition 0")

    def as_json(self) -> dict[str, int]:
        """The fields that were given."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class TopicSource:
    """``LetterSource`` of the route's source topic."""

    def __init__(
        self, *, reader: LogReader, store: IdempotencyStore, route: ReplayRoute, range_: SourceRange | None = None
    ) -> None:
        self._reader = reader
        self._store = store
        self._route = route
        self._range = range_
        self._until: dict[str, int] = {}

    @property
    def described(self) -> Mapping[str, Any]:
        """See ``LetterSource.described``."""
        return {"kind": TOPIC, "topic": self._route.topic}

    @property
    def selection(self) -> Mapping[str, Any]:
        """See ``LetterSource.selection``."""
        return self._range.as_json() if self._range else {}

    async def until(self) -> dict[str, int]:
        """See ``LetterSource.until``."""
        return self._until

    async def select(self) -> AsyncGenerator[list[Candidate], None]:
        """See ``LetterSource.select``. Raises ``PlanRefusedError`` where retention has removed what is asked for."""
        route = self._route
        committed = await self._reader.group_offsets(route.group, [route.topic])
        start, end = await self._bounds()
        records = self._reader.read(start, end)
        letters = _read_all(records, route.group)
        looked_up = with_claims(
            letters,
            key_of=lambda letter: claim_key(letter.idempotency_key, namespace=route.topic),
            store=self._store,
            group=route.group,
        )
        async with aclosing(letters), aclosing(looked_up):
            async for batch in looked_up:
                yield [_candidate(letter, claim, committed) for letter, claim in batch]

    def letters(
        self, wanted: AsyncIterator[Sequence[Numbered]]
    ) -> AsyncGenerator[list[tuple[Numbered, DeadLetter | None]], None]:
        """See ``LetterSource.letters``."""
        group = self._route.group
        return letters_of(
            wanted, reader=self._reader, topic=self._route.topic, read=lambda record: produced(record, group)
        )

    async def check(self) -> None:
        """See ``LetterSource.check``."""
        await check_topic(self._reader, self._route.topic)

    async def _bounds(self) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        """From where to where to read."""
        wanted, topic = self._range, self._route.topic
        assert wanted is not None, "a source without a range only hands out letters"
        bounds = await self._reader.offsets([topic])
        self._until = {str(tp.partition): after for tp, (_, after) in sorted(bounds.items())}
        if wanted.partition is not None:
            bounds = {tp: found for tp, found in bounds.items() if tp.partition == wanted.partition}
            if not bounds:
                raise NotFoundError("there is no such partition", where=f"{topic}/{wanted.partition}")
        start = {tp: first for tp, (first, _) in bounds.items()}
        end = {tp: after for tp, (_, after) in bounds.items()}
        for tp, (first, after) in bounds.items():
            start[tp] = first if wanted.from_offset is None else wanted.from_offset
            end[tp] = after if wanted.to_offset is None else min(after, wanted.to_offset)
            if start[tp] < first:
                raise PlanRefusedError(
                    f"retention has removed offsets {start[tp]} to {first - 1}, which were asked for",
                    where=f"{topic}/{tp.partition}",
                    remedy=f"begin at what is left: --from-offset {first}",
                )
        if wanted.since_ms is not None:
            since = await self._reader.offsets_at([topic], timestamp_ms=wanted.since_ms)
            start = {tp: max(offset, since[tp]) for tp, offset in start.items()}
        if wanted.until_ms is not None:
            until = await self._reader.offsets_at([topic], timestamp_ms=wanted.until_ms)
            end = {tp: min(offset, until[tp]) for tp, offset in end.items()}
        return start, end


def produced(record: Record, group: str) -> DeadLetter:
    """A record of the source topic as a letter that never failed. The bridge's own headers are no business of
    producers': in a lane they would be believed."""
    headers = tuple(h.without_bridge(record.headers))
    return DeadLetter(
        position=record.position,
        origin=record.position,
        group=group,
        failure=_NO_FAILURE,
        service="",
        hops=0,
        replay_id=None,
        trace=None,
        key=record.key,
        value=record.value,
        headers=headers,
        timestamp_ms=record.timestamp_ms,
        idempotency_key=h.idempotency_key(headers, record.position),
        record=record,
    )


async def _read_all(records: AsyncIterator[list[Record]], group: str) -> AsyncGenerator[list[DeadLetter], None]:
    async for batch in records:
        yield [produced(record, group) for record in batch]


def _candidate(
    letter: DeadLetter, claim: ClaimView | None, committed: Mapping[TopicPartition, int | None]
) -> Candidate:
    origin = letter.origin
    if claim is None:
        is_pending = origin.offset >= (committed.get(TopicPartition(origin.topic, origin.partition)) or 0)
        return Candidate(letter, LetterState.UNKNOWN, None, is_pending=is_pending)
    return Candidate(letter, _state(letter, claim), claim)


def _state(letter: DeadLetter, claim: ClaimView) -> LetterState:
    """What became of a record's message. Its claim may be that of another copy of it, or of another message."""
    if claim.origin != pack_origin(*letter.origin):
        is_same = claim.fingerprint == payload_fingerprint(letter.value)
        return LetterState.SUPERSEDED if is_same else LetterState.CONFLICT
    if claim.state is ClaimState.COMPLETED:
        return _ENDINGS.get(claim.detail, LetterState.RESOLVED)
    if claim.state is not ClaimState.DEAD:
        return LetterState.REPLAYING
    # after a replay that died its dead letter counts: that one knows how often it was replayed
    return LetterState.WAITING if claim.replay == NO_REPLAY else LetterState.SUPERSEDED
