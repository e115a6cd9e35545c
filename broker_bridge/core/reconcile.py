"""The other side of the books: what the target says it did, compared with what the buffer says.

The buffer promises at most one completed delivery a key, and that an effect can repeat only in its published windows
(docs/reliability.md, W1–W5). In every such window the bridge says so on the request that repeats: ``bridge-attempt``
above 1, ``bridge-crashes`` above 0, or a ``bridge-replay-id``. A repeat without such a word is one nobody warned of.

What is decided here is decided for one idempotency key at a time (``judge_key``), then for one record key at a time
(``judge_order``); who calls sorts both sides, so that neither need be in memory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from broker_bridge.core.audit import OPEN, Listing, Outcome
from broker_bridge.errors import (
    CrashSuspectError,
    OutputInvalidError,
    TargetTimeoutError,
    TargetUnavailableError,
)
from broker_bridge.message import Position

UNCERTAIN_CODES = frozenset(
    kind.code for kind in (TargetTimeoutError, TargetUnavailableError, CrashSuspectError, OutputInvalidError)
)
"""Dead-letter codes that leave open whether the effect happened, and say so."""

SIDES = ("missing", "extra", "late", "unexplained", "disordered", "uncertain")
"""The listings of a ``Reconciliation``, by name."""

_DELIVERED = frozenset({"applied", "repeat", "refused"})
_GIVEN_UP = frozenset({Outcome.DISCARDED, Outcome.STALE})
_FORCED = "#force:"


class BookEntry(NamedTuple):
    """One source record and its heading. ``code`` is the dead letter's error code, ``event_id`` the event's own id,
    ``timestamp_ms`` the record's, ``deadline_ms`` that of its header, if any; ms since the epoch."""

    position: Position
    idempotency_key: str
    key: bytes | None
    outcome: Outcome
    code: str = ""
    event_id: str | None = None
    timestamp_ms: int = 0
    deadline_ms: int | None = None


class TargetLine(NamedTuple):
    """One line of the target's list, in the order in which it acted. ``number`` is the line's, from 1.

    ``kind``: ``applied`` (the effect happened), ``repeat`` (the target knew the key and did nothing again),
    ``refused`` (it said no), ``fenced`` (it turned a stale token away). ``origin`` is None where the list has none.
    ``at_ms``: when, ms since the epoch. ``result_id``: the id of the event that says so; two lines with one are one
    effect, told twice. ``is_event_id``: where no record has ``key`` as its idempotency key, it may be the id of an
    event, or the place of a record without one.
    """

    number: int
    key: str
    kind: str = "applied"
    attempt: int = 1
    crashes: int = 0
    replay_id: str | None = None
    origin: Position | None = None
    at_ms: int | None = None
    result_id: str | None = None
    is_event_id: bool = False

    @property
    def is_explained(self) -> bool:
        """Whether the bridge said on the request that this may be a repeat."""
        return self.attempt > 1 or self.crashes > 0 or bool(self.replay_id)


class Discrepancy(NamedTuple):
    """Something the two sides do not agree on: the key, the record (if any), the line of the list (if any)."""

    key: str
    position: Position | None
    line: int | None
    why: str


@dataclass(slots=True)
class Reconciliation:
    """The result. Every listing of discrepancies but ``uncertain`` breaks the balance.

    ``applied`` counts keys, ``repeats`` the deliveries beyond the first of each key, explained ones included;
    ``told_again`` lines that tell of an effect that was told before. ``forced`` counts executions that an operator's
    forced replay asked for. ``uncertain``: dead letters whose code says that the effect may have happened (or that were
    discarded or stale later), and it did. ``unsettled``: applied, but the buffer is not done with it yet. ``late``:
    applied after the message's deadline, or longer after it was written than was allowed.
    """

    lines: int = 0
    applied: int = 0
    repeats: int = 0
    repeats_explained: int = 0
    told_again: int = 0
    refused: int = 0
    fenced: int = 0
    forced: int = 0
    unsettled: int = 0
    foreign: int = 0
    missing: Listing[Discrepancy] = field(default_factory=Listing)
    extra: Listing[Discrepancy] = field(default_factory=Listing)
    late: Listing[Discrepancy] = field(default_factory=Listing)
    unexplained: Listing[Discrepancy] = field(default_factory=Listing)
    disordered: Listing[Discrepancy] = field(default_factory=Listing)
    uncertain: Listing[Discrepancy] = field(default_factory=Listing)

    @property
    def balanced(self) -> bool:
        """Whether both sides tell the same story."""
        return not (self.missing or self.extra or self.late or self.unexplained or self.disordered)


class Terms(NamedTuple):
    """What the target's list is held to. ``late_after_ms``: how long after a record was written it may be applied.
    ``is_whole``: the books have every record there ever was; where they do not, a line that neither they nor its own
    origin place is not theirs to judge, and is foreign."""

    late_after_ms: int | None = None
    is_whole: bool = True


class Applied(NamedTuple):
    """The first application of a key whose order is to be looked at: its place in the log, its line."""

    position: Position
    number: int
    key: str


def base_key(key: str) -> str:
    """The idempotency key without what a forced replay adds to it (``<original>#force:<plan id>``)."""
    return key.rpartition(_FORCED)[0] or key


def judge_key(
    entries: Iterable[BookEntry], lines: Iterable[TargetLine], result: Reconciliation, terms: Terms
) -> list[tuple[BookEntry, Applied]]:
    """Compare what both sides have of one ``base_key``. ``lines`` in their order.

    Returns the first applications whose order matters, those of replayed messages excepted.
    """
    books: dict[str, BookEntry] = {}
    for entry in entries:
        known = books.get(entry.idempotency_key)
        if known is None or _rank(entry) < _rank(known):
            books[entry.idempotency_key] = entry
    tallies: dict[str, _Tally] = {}
    for line in lines:
        tally = tallies.setdefault(line.key, _Tally())
        tally.see(line, books.get(line.key), result)
    for key, entry in books.items():
        if entry.outcome is Outcome.COMPLETED and (key not in tallies or tallies[key].first is None):
            why = "the buffer says completed, the target never applied it"
            result.missing.add(Discrepancy(key, entry.position, None, why))
    ordered: list[tuple[BookEntry, Applied]] = []
    for key, tally in tallies.items():
        if tally.first is None:
            continue
        known = books.get(key)
        _judge_applied(known, tally.first, books, result, terms)
        if known is None:
            continue
        _judge_time(known, tally.first, terms.late_after_ms, result)
        if not tally.replayed:
            ordered.append((known, Applied(tally.first.origin or known.position, tally.first.number, key)))
    return ordered


def judge_order(applied: Iterable[Applied], result: Reconciliation) -> None:
    """Look at the first applications of one record key of one partition, in the order of their lines: they must follow
    the log."""
    latest, number = -1, 0
    for one in applied:
        if one.position.offset < latest:
            why = f"applied after offset {latest} of its record key (line {number})"
            result.disordered.add(Discrepancy(one.key, one.position, one.number, why))
        else:
            latest, number = one.position.offset, one.number


@dataclass(slots=True)
class _Tally:
    """What the lines of one key said so far."""

    first: TargetLine | None = None
    delivered: bool = False
    replayed: bool = False
    told: set[str] = field(default_factory=set)

    def see(self, line: TargetLine, entry: BookEntry | None, result: Reconciliation) -> None:
        result.lines += 1
        result.refused += line.kind == "refused"
        result.fenced += line.kind == "fenced"
        self.replayed |= bool(line.replay_id)
        if line.kind not in _DELIVERED:
            return
        if line.result_id is not None and line.result_id in self.told:
            result.told_again += 1
            return
        if self.delivered:
            _count_repeat(line, entry, result)
        self.delivered = True
        if line.result_id is not None:
            self.told.add(line.result_id)
        if line.kind == "applied" and self.first is None:
            self.first = line


def _rank(entry: BookEntry) -> int:
    """The record that speaks for a key: duplicates give way to the one that holds the claim."""
    if entry.outcome is Outcome.COMPLETED:
        return 0
    return 2 if entry.outcome is Outcome.DUPLICATE else 1


def _count_repeat(line: TargetLine, entry: BookEntry | None, result: Reconciliation) -> None:
    result.repeats += 1
    if line.is_explained:
        result.repeats_explained += 1
        return
    why = f"delivered again ({line.kind}) as if for the first time: attempt {line.attempt}, no crash, no replay"
    position = line.origin or (entry.position if entry else None)
    result.unexplained.add(Discrepancy(line.key, position, line.number, why))


def _judge_applied(
    entry: BookEntry | None, line: TargetLine, books: Collection[str], result: Reconciliation, terms: Terms
) -> None:
    result.applied += 1
    if entry is None and base_key(line.key) in books:
        result.forced += 1
    elif not terms.is_whole and line.origin is None and (entry is None or entry.outcome is Outcome.DUPLICATE):
        result.foreign += 1
    elif entry is None:
        result.extra.add(Discrepancy(line.key, line.origin, line.number, "applied, but no record has this key"))
    elif entry.outcome in OPEN:
        result.unsettled += 1
    elif entry.outcome not in (Outcome.COMPLETED, Outcome.FORGOTTEN):
        _applied_yet_not_completed(entry, line, result)


def _applied_yet_not_completed(entry: BookEntry, line: TargetLine, result: Reconciliation) -> None:
    why = ""
    if entry.outcome is Outcome.DEAD and entry.code in UNCERTAIN_CODES:
        why = f"dead letter with {entry.code}: the effect was uncertain, and did happen"
    elif entry.outcome in _GIVEN_UP:
        why = f"its dead letter ended as {entry.outcome.value}, and the effect had happened before"
    if why:
        result.uncertain.add(Discrepancy(entry.idempotency_key, entry.position, line.number, why))
        return
    why = f"applied, but the buffer has it as {entry.outcome.value}" + (f" ({entry.code})" if entry.code else "")
    result.extra.add(Discrepancy(entry.idempotency_key, entry.position, line.number, why))


def _judge_time(entry: BookEntry, line: TargetLine, late_after_ms: int | None, result: Reconciliation) -> None:
    """A replay is late on purpose: it is not held to the deadline, nor are its repeats."""
    if line.at_ms is None or line.replay_id:
        return
    why = ""
    if entry.deadline_ms is not None and line.at_ms > entry.deadline_ms:
        why = f"applied {line.at_ms - entry.deadline_ms:,} ms after its deadline"
    elif late_after_ms is not None and line.at_ms > entry.timestamp_ms + late_after_ms:
        why = f"applied {line.at_ms - entry.timestamp_ms:,} ms after it was written; {late_after_ms:,} ms are allowed"
    if why:
        result.late.add(Discrepancy(entry.idempotency_key, entry.position, line.number, why))
