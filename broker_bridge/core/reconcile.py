"""The other side of the books: what the target says it did, compared with what the buffer says.

The buffer promises at most one completed delivery a key, and that an effect can repeat only in its published windows
(docs/reliability.md, W1–W5). In every such window the bridge says so on the request that repeats: ``bridge-attempt``
above 1, ``bridge-crashes`` above 0, or a ``bridge-replay-id``. A repeat without such a word is one nobody warned of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from broker_bridge.core.audit import Outcome
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

_DELIVERED = frozenset({"applied", "repeat", "refused"})
_OPEN = frozenset({Outcome.PENDING, Outcome.IN_RETRY, Outcome.IN_PROGRESS})


class BookEntry(NamedTuple):
    """One source record and its heading. ``code`` is the dead letter's error code."""

    position: Position
    idempotency_key: str
    key: bytes | None
    outcome: Outcome
    code: str = ""


class TargetLine(NamedTuple):
    """One line of the target's log, in the order in which it acted. ``number`` is the line's, from 1.

    ``kind``: ``applied`` (the effect happened), ``repeat`` (the target knew the key and did nothing again),
    ``refused`` (it said no), ``fenced`` (it turned a stale token away). ``origin`` is None where the log has none.
    """

    number: int
    key: str
    kind: str = "applied"
    attempt: int = 1
    crashes: int = 0
    replay_id: str | None = None
    origin: Position | None = None

    @property
    def is_explained(self) -> bool:
        """Whether the bridge said on the request that this may be a repeat."""
        return self.attempt > 1 or self.crashes > 0 or bool(self.replay_id)


class Discrepancy(NamedTuple):
    """Something the two sides do not agree on: the key, the record (if any), the line of the log (if any)."""

    key: str
    position: Position | None
    line: int | None
    why: str


@dataclass(slots=True)
class Reconciliation:
    """The result. Everything that is a list of discrepancies but ``uncertain`` breaks the balance.

    ``applied`` counts keys, ``repeats`` the deliveries beyond the first of each key, explained ones included.
    ``uncertain``: dead letters whose code says that the effect may have happened, and it did. ``unsettled``: applied,
    but the buffer is not done with it yet.
    """

    lines: int = 0
    applied: int = 0
    repeats: int = 0
    repeats_explained: int = 0
    refused: int = 0
    fenced: int = 0
    unsettled: int = 0
    foreign: int = 0
    missing: list[Discrepancy] = field(default_factory=list)
    extra: list[Discrepancy] = field(default_factory=list)
    unexplained: list[Discrepancy] = field(default_factory=list)
    disordered: list[Discrepancy] = field(default_factory=list)
    uncertain: list[Discrepancy] = field(default_factory=list)

    @property
    def balanced(self) -> bool:
        """Whether both sides tell the same story."""
        return not (self.missing or self.extra or self.unexplained or self.disordered)


def reconcile(
    books: Iterable[BookEntry],
    log: Iterable[TargetLine],
    *,
    topic: str,
    covers: Callable[[Position], bool] | None = None,
    is_ordered: bool = True,
) -> Reconciliation:
    """Compare the books of one route with its target's log.

    Lines whose ``origin`` is of another topic, or not covered by the books, are counted as ``foreign`` and left
    alone. Beside a running worker the log must be read after the books. ``is_ordered``: the route keeps order per
    record key, so first applications must follow offsets, replayed ones excepted.
    """
    result = Reconciliation()
    entries = _by_key(books)
    first_applied, replayed = _read_log(log, topic, covers, entries, result)
    result.applied = len(first_applied)
    _compare(entries, first_applied, result)
    if is_ordered:
        _check_order(entries, first_applied, replayed, result)
    return result


def _by_key(books: Iterable[BookEntry]) -> dict[str, BookEntry]:
    """The record that speaks for each key: duplicates give way to the one that holds the claim."""
    entries: dict[str, BookEntry] = {}
    for entry in books:
        known = entries.get(entry.idempotency_key)
        if known is None or _rank(entry) < _rank(known):
            entries[entry.idempotency_key] = entry
    return entries


def _rank(entry: BookEntry) -> int:
    if entry.outcome is Outcome.COMPLETED:
        return 0
    return 2 if entry.outcome is Outcome.DUPLICATE else 1


def _read_log(
    log: Iterable[TargetLine],
    topic: str,
    covers: Callable[[Position], bool] | None,
    entries: dict[str, BookEntry],
    result: Reconciliation,
) -> tuple[dict[str, TargetLine], set[str]]:
    first_applied: dict[str, TargetLine] = {}
    delivered: set[str] = set()
    replayed: set[str] = set()
    for line in log:
        origin = line.origin
        if origin is not None and (origin.topic != topic or (covers is not None and not covers(origin))):
            result.foreign += 1
            continue
        result.lines += 1
        result.refused += line.kind == "refused"
        result.fenced += line.kind == "fenced"
        if line.replay_id:
            replayed.add(line.key)
        if line.kind not in _DELIVERED:
            continue
        if line.key in delivered:
            _count_repeat(line, entries.get(line.key), result)
        delivered.add(line.key)
        if line.kind == "applied":
            first_applied.setdefault(line.key, line)
    return first_applied, replayed


def _count_repeat(line: TargetLine, entry: BookEntry | None, result: Reconciliation) -> None:
    result.repeats += 1
    if line.is_explained:
        result.repeats_explained += 1
        return
    why = f"delivered again ({line.kind}) as if for the first time: attempt {line.attempt}, no crash, no replay"
    position = line.origin or (entry.position if entry else None)
    result.unexplained.append(Discrepancy(line.key, position, line.number, why))


def _compare(entries: dict[str, BookEntry], applied: dict[str, TargetLine], result: Reconciliation) -> None:
    for key, entry in entries.items():
        if entry.outcome is Outcome.COMPLETED and key not in applied:
            why = "the buffer says completed, the target never applied it"
            result.missing.append(Discrepancy(key, entry.position, None, why))
    for key, line in applied.items():
        known = entries.get(key)
        if known is None:
            result.extra.append(Discrepancy(key, line.origin, line.number, "applied, but no record has this key"))
        elif known.outcome in _OPEN:
            result.unsettled += 1
        elif known.outcome is not Outcome.COMPLETED:
            _applied_yet_not_completed(known, line, result)


def _applied_yet_not_completed(entry: BookEntry, line: TargetLine, result: Reconciliation) -> None:
    if entry.outcome is Outcome.DEAD and entry.code in UNCERTAIN_CODES:
        why = f"dead letter with {entry.code}: the effect was uncertain, and did happen"
        result.uncertain.append(Discrepancy(entry.idempotency_key, entry.position, line.number, why))
        return
    why = f"applied, but the buffer has it as {entry.outcome.value}" + (f" ({entry.code})" if entry.code else "")
    result.extra.append(Discrepancy(entry.idempotency_key, entry.position, line.number, why))


def _check_order(
    entries: dict[str, BookEntry], applied: dict[str, TargetLine], replayed: set[str], result: Reconciliation
) -> None:
    latest: dict[tuple[int, bytes], tuple[int, int]] = {}
    for key, line in applied.items():
        entry = entries.get(key)
        if entry is None or entry.key is None or key in replayed:
            continue
        position = line.origin or entry.position
        lane = (position.partition, entry.key)
        offset, number = latest.get(lane, (-1, 0))
        if position.offset < offset:
            why = f"applied after offset {offset} of its record key (line {number})"
            result.disordered.append(Discrepancy(key, position, line.number, why))
        else:
            latest[lane] = (position.offset, line.number)
