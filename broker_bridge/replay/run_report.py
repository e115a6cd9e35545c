"""How far a run of a plan is, and how it ended."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from broker_bridge.core.replay_pace import Phase
from broker_bridge.core.replay_state import Heading


class RunEnd(enum.StrEnum):
    """How a run ended."""

    DONE = "done"
    STOPPED = "stopped"
    """By the operator; the same command goes on."""
    CANARY_FAILED = "canary_failed"
    CANARY_UNSETTLED = "canary_unsettled"
    TOO_MANY_DEAD = "too_many_dead"

    @classmethod
    def of(cls, phase: Phase) -> RunEnd:
        """How a run ended that was not done, by the phase it ended in."""
        return _ENDS.get(phase, cls.STOPPED)


@dataclass(slots=True)
class RunReport:
    """``headings`` counts items decided on, ``sent`` those that Kafka acknowledged in this run, ``sent_before`` those
    that the redrive lane had when it began. ``waits_for`` says what it waits for, empty while it goes on. ``canary`` is
    how many items the canary has, ``died`` how many items died again as far as this run saw."""

    plan_id: str
    items: int
    canary: int = 0
    sent_before: int = 0
    sent: int = 0
    died: int = 0
    end: RunEnd = RunEnd.DONE
    waits_for: str = ""
    headings: Counter[Heading] = field(default_factory=Counter)

    @property
    def looked_at(self) -> int:
        """Items decided on so far."""
        return self.headings.total()

    @property
    def was_stopped(self) -> bool:
        """Whether the operator ended it before all was sent."""
        return self.end is RunEnd.STOPPED

    def counts(self) -> dict[str, int]:
        """What is recorded of it."""
        found = {heading.value: count for heading, count in sorted(self.headings.items())}
        found.pop(Heading.TO_SEND, None)
        return {"items": self.items, "sent": self.sent, "died_again": self.died, **found}


Progress = Callable[[RunReport], None]

_ENDS = {
    Phase.CANARY_FAILED: RunEnd.CANARY_FAILED,
    Phase.CANARY_UNSETTLED: RunEnd.CANARY_UNSETTLED,
    Phase.TOO_MANY_DEAD: RunEnd.TOO_MANY_DEAD,
}
