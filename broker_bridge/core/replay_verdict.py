"""A plan's prediction held against what came of it, message by message."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from broker_bridge.core.replay_plan import COMPLETED, DEAD_AGAIN, STALE, PlanItem, SkippedLetter
from broker_bridge.core.replay_state import OPEN, ItemStatus, SkippedStatus

LISTED: Final = 20
"""Of each kind of difference so many are listed."""

_AS_PREDICTED: Final = {
    (COMPLETED, ItemStatus.COMPLETED),
    (STALE, ItemStatus.STALE),
    (DEAD_AGAIN, ItemStatus.DEAD_AGAIN),
}


class Verdict(enum.StrEnum):
    """What a verification says. The worst that holds."""

    AS_PREDICTED = "as_predicted"
    DIFFERS = "differs"
    """Everything is settled, and something came otherwise than the plan said."""
    UNSETTLED = "unsettled"
    """Something is still on its way, or was not sent."""
    BROKEN = "broken"
    """Something happened that must not: a message lost, one executed that the plan left alone, a record in the lane
    that the plan does not send."""


class DifferentItem(NamedTuple):
    """An item that is not as predicted."""

    item: PlanItem
    actual: ItemStatus


class DifferentLetter(NamedTuple):
    """A skipped letter that is not as the plan said."""

    letter: SkippedLetter
    status: SkippedStatus


@dataclass(slots=True)
class Comparison:
    """Counts by (predicted, actual) and, of the skipped, by (why, status); the first differences of each kind. The rest
    is of the redrive lane: ``copies`` beyond one of an item, records that are ``foreign``, and ``sent`` items."""

    items: Counter[tuple[str, ItemStatus]] = field(default_factory=Counter)
    skipped: Counter[tuple[str, SkippedStatus]] = field(default_factory=Counter)
    forced: Counter[ItemStatus] = field(default_factory=Counter)
    different: list[DifferentItem] = field(default_factory=list)
    different_skipped: list[DifferentLetter] = field(default_factory=list)
    copies: int = 0
    foreign: int = 0
    _listed: Counter[str] = field(default_factory=Counter)

    def add(self, item: PlanItem, actual: ItemStatus) -> None:
        """One item of the plan."""
        self.items[item.predicted, actual] += 1
        if item.forces:
            self.forced[actual] += 1
        if (item.predicted, actual) not in _AS_PREDICTED and self._has_room(f"item {actual}"):
            self.different.append(DifferentItem(item, actual))

    def add_skipped(self, letter: SkippedLetter, status: SkippedStatus) -> None:
        """One letter that the plan left where it was."""
        self.skipped[letter.why, status] += 1
        if status is not SkippedStatus.AS_PLANNED and self._has_room(f"skipped {status}"):
            self.different_skipped.append(DifferentLetter(letter, status))

    @property
    def is_settled(self) -> bool:
        """Whether asking again later would give the same."""
        return not any(actual in OPEN for _, actual in self.items)

    @property
    def verdict(self) -> Verdict:
        """What is to be said of it all."""
        is_lost = any(actual is ItemStatus.MISSING for _, actual in self.items)
        is_touched = any(status is SkippedStatus.TOUCHED for _, status in self.skipped)
        if is_lost or is_touched or self.foreign:
            return Verdict.BROKEN
        if not self.is_settled:
            return Verdict.UNSETTLED
        differs = any(pair not in _AS_PREDICTED for pair in self.items)
        changed = any(status is SkippedStatus.CHANGED for _, status in self.skipped)
        return Verdict.DIFFERS if differs or changed else Verdict.AS_PREDICTED

    def counts(self) -> dict[str, int]:
        """What is recorded of it."""
        found = {f"{predicted} as {actual}": count for (predicted, actual), count in sorted(self.items.items())}
        found |= {f"skipped {status}": 0 for status in SkippedStatus}
        for (_, status), count in self.skipped.items():
            found[f"skipped {status}"] += count
        return {**found, "further_copies": self.copies, "foreign_records": self.foreign}

    def _has_room(self, kind: str) -> bool:
        self._listed[kind] += 1
        return self._listed[kind] <= LISTED
