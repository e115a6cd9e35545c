"""What happened to the message of one dead letter: how it died, who sent it back, who discarded it.

Nothing is kept for this. Every letter and every replayed copy of a message carries the place it was produced at, so
that the logs tell it: the partition of the dead-letter topic, that of the redrive lane, and the operations topic for
who and why. Of a long partition only the newest ``SEARCHED`` records are looked at, and that is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from broker_bridge import headers as h
from broker_bridge.core.dead_letter import DeadLetter, read_dead_letter
from broker_bridge.core.operation import Action, Operation, OperationFilter
from broker_bridge.errors import TopicMissingError
from broker_bridge.message import Position, Record, TopicPartition
from broker_bridge.replay.operations_log import OperationsLog
from broker_bridge.replay.route import ReplayRoute
from broker_bridge.transport.base import LogReader

SEARCHED: Final = 200_000
"""Records of one partition that are looked at, the newest ones."""
_PART: Final = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?", re.ASCII)


@dataclass(slots=True, frozen=True)
class HistoryEvent:
    """One thing that happened, ms since the epoch. ``what`` is ``produced``, ``failed``, ``died``, ``sent_back`` or
    ``discarded``; ``where`` a place in the log; ``by`` and ``why`` an operator's, empty where not recorded."""

    at_ms: int
    what: str
    where: str = ""
    told: str = ""
    plan_id: str = ""
    by: str = ""
    why: str = ""


@dataclass(slots=True)
class LetterHistory:
    """The events in their order. ``not_searched`` counts older records that were not looked at."""

    events: list[HistoryEvent] = field(default_factory=list)
    not_searched: int = 0


async def history_of(
    letter: DeadLetter,
    *,
    reader: LogReader,
    route: ReplayRoute,
    operations: OperationsLog | None,
    searched: int = SEARCHED,
) -> LetterHistory:
    """Everything that is known of the letter's message; ``route`` with its own dead letters, wherever the letter is.
    Raises ``TransportError``."""
    found = LetterHistory()
    search = _Search(reader, (h.ORIGIN, str(letter.origin).encode()), searched, found)
    own = TopicPartition(route.dead_letter_topic, letter.origin.partition)
    others = [read_dead_letter(record) for record in await search.records(own) if record.position != letter.position]
    copies = await search.records(TopicPartition(route.redrive_topic, letter.origin.partition))
    recorded = _Recorded({h.text_of(copy.headers, h.REPLAY_ID) or "" for copy in copies}, [letter, *others])
    if operations is not None:
        async for operation in operations.read(OperationFilter(route=route.name)):
            recorded.look_at(operation)
    found.events = [HistoryEvent(letter.timestamp_ms, "produced", str(letter.origin))]
    for one in [letter, *others]:
        found.events += _deaths(one)
    found.events += [recorded.sent_back(copy) for copy in copies]
    found.events += recorded.discards
    # sorted keeps the order of what happened at once: died before sent back
    found.events.sort(key=lambda event: event.at_ms)
    return found


def _deaths(letter: DeadLetter) -> list[HistoryEvent]:
    failure = letter.failure
    told = f"{failure.code} ({failure.target_code})" if failure.target_code else failure.code
    spent = f", {failure.attempts} attempts" if failure.attempts else ""
    release = f", release {letter.release}" if letter.release else ""
    by_replay = letter.replay_id or ""
    died = HistoryEvent(failure.last_ms, "died", str(letter.position), f"{told}{spent}{release}", by_replay)
    if failure.first_ms >= failure.last_ms:
        return [died]
    return [HistoryEvent(failure.first_ms, "failed", plan_id=by_replay), died]


class _Search:
    """Looks for the records of one message: those with one header."""

    def __init__(self, reader: LogReader, header: tuple[str, bytes], searched: int, history: LetterHistory) -> None:
        self._reader = reader
        self._header = header
        self._searched = searched
        self._history = history

    async def records(self, tp: TopicPartition) -> list[Record]:
        try:
            bounds = (await self._reader.offsets([tp.topic])).get(tp)
        except TopicMissingError:
            bounds = None
        if bounds is None:
            return []
        first, end = bounds
        start = max(first, end - self._searched)
        self._history.not_searched += start - first
        header = self._header
        return [
            record
            async for batch in self._reader.read({tp: start}, {tp: end})
            for record in batch
            if header in record.headers
        ]


class _Recorded:
    """What the operations topic knows of some replays and letters."""

    def __init__(self, plan_ids: set[str], letters: list[DeadLetter]) -> None:
        self._plan_ids = plan_ids
        self._places = [letter.position for letter in letters]
        self._plans: dict[str, Operation] = {}
        self.discards: list[HistoryEvent] = []

    def look_at(self, operation: Operation) -> None:
        if operation.action == Action.LETTERS_DISCARDED:
            texts = operation.details.get("places")
            named = [place for place in self._places if isinstance(texts, list) and _names(texts, place)]
            who = f"{operation.by}@{operation.host}"
            self.discards += [
                HistoryEvent(operation.at_ms, "discarded", str(place), "", operation.plan_id, who, operation.why)
                for place in named
            ]
        elif operation.plan_id in self._plan_ids and operation.action in (Action.REPLAY_PLANNED, Action.REPLAY_STARTED):
            self._plans[operation.plan_id] = operation  # the start of the latest run, where there was one

    def sent_back(self, copy: Record) -> HistoryEvent:
        plan_id = h.text_of(copy.headers, h.REPLAY_ID) or ""
        plan = self._plans.get(plan_id)
        edited = "edited" if h.text_of(copy.headers, h.EDITED_FROM) else ""
        by, why = (f"{plan.by}@{plan.host}", plan.why) if plan else ("", "")
        return HistoryEvent(copy.timestamp_ms, "sent_back", str(copy.position), edited, plan_id, by, why)


def _names(texts: Iterable[object], place: Position) -> bool:
    """Whether ``partition/first-last,offset,…`` names the place (``core.discard.place_texts``); other texts name
    none."""
    for text in texts:
        partition, _, parts = str(text).partition("/")
        if partition != str(place.partition):
            continue
        for part in parts.split(","):
            found = _PART.fullmatch(part)
            if found and int(found[1]) <= place.offset <= int(found[2] or found[1]):
                return True
    return False
