"""How fast a replay may go on: a canary first, then no faster than it is allowed to and the group takes.

A replay is tied to its target by what can be seen from outside. A worker whose target is away, or whose retry budget
is spent, reads no further: the group's place in the redrive lane stands still, and so does the replay.

``TRANSITIONS`` is the state machine: of the rows of a phase the first that holds wins. ``transition_table`` prints it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from broker_bridge.core.token_bucket import TokenBucket

SMALL_PLAN: Final = 10
"""Plans with fewer items than this have no canary unless one is asked for."""
LARGEST_CANARY: Final = 100
LOOK_SOON_MS: Final = 200
LOOK_MS: Final = 1_000
"""How often to look at the lane: while something is waited for, and otherwise."""


class Phase(enum.StrEnum):
    """Where a run is. The last four end it."""

    CANARY = "canary"
    """The first items are being sent."""
    WATCHING = "watching"
    """They are sent; what becomes of them?"""
    FLOWING = "flowing"
    LANE_FULL = "lane_full"
    """As much as may wait for the group waits."""
    STANDSTILL = "standstill"
    """The group has read nothing for a while, though there is something to read."""
    TARGET_AWAY = "target_away"
    """The worker says that its breaker is open."""
    CANARY_FAILED = "canary_failed"
    CANARY_UNSETTLED = "canary_unsettled"
    TOO_MANY_DEAD = "too_many_dead"


ENDED: Final = frozenset({Phase.CANARY_FAILED, Phase.CANARY_UNSETTLED, Phase.TOO_MANY_DEAD})
"""Nothing more is sent by this run."""


@dataclass(slots=True, frozen=True)
class PaceLimits:
    """What an operator allows.

    ``rate_per_s`` None: no limit. ``max_in_lane`` is how many records may wait for the group in the redrive lane, None:
    the lane is not looked at. Of the first ``canary`` items at most ``canary_failures`` may die again, and all must be
    settled within ``canary_timeout_ms``. The run ends where more than ``died_share`` of what it sent died again, and at
    least ``died_least``.
    """

    rate_per_s: float | None = None
    max_in_lane: int | None = None
    canary: int = 0
    canary_failures: int = 0
    canary_timeout_ms: int = 600_000
    died_share: float = 0.1
    died_least: int = 20
    standstill_ms: int = 10_000


class LaneView(NamedTuple):
    """What one look saw. ``in_lane`` are the records that wait for the group, ``read_to`` is the sum of its places in
    the lane (both 0 where nobody looks), ``died`` how many items died again since the run began, ``canary_open`` and
    ``canary_died`` how the canary stands, ``is_away`` whether the worker says that its target is away."""

    at_ms: int
    in_lane: int = 0
    read_to: int = 0
    died: int = 0
    canary_open: int = 0
    canary_died: int = 0
    is_away: bool = False


class _Facts(NamedTuple):
    limits: PaceLimits
    view: LaneView
    sent: int
    canary_is_sent: bool
    watched_ms: int
    still_ms: int
    room: int


class Transition(NamedTuple):
    """In ``phase``, when ``guard`` holds: ``next``."""

    phase: Phase
    when: str
    guard: Callable[[_Facts], bool]
    next: Phase


def _canary_failed(f: _Facts) -> bool:
    return f.view.canary_died > f.limits.canary_failures


def _too_many_dead(f: _Facts) -> bool:
    return f.view.died >= f.limits.died_least and f.view.died > f.limits.died_share * f.sent


def _stands_still(f: _Facts) -> bool:
    return f.limits.max_in_lane is not None and f.view.in_lane > 0 and f.still_ms >= f.limits.standstill_ms


_GOING = (Phase.FLOWING, Phase.LANE_FULL, Phase.STANDSTILL, Phase.TARGET_AWAY)

TRANSITIONS: Final[tuple[Transition, ...]] = (
    Transition(Phase.CANARY, "every canary item was sent", lambda f: f.canary_is_sent, Phase.WATCHING),
    Transition(Phase.WATCHING, "more of them died again than may", _canary_failed, Phase.CANARY_FAILED),
    Transition(Phase.WATCHING, "all are settled", lambda f: f.view.canary_open == 0, Phase.FLOWING),
    Transition(
        Phase.WATCHING,
        "that takes too long",
        lambda f: f.watched_ms >= f.limits.canary_timeout_ms,
        Phase.CANARY_UNSETTLED,
    ),
    *(Transition(phase, "too many items died again", _too_many_dead, Phase.TOO_MANY_DEAD) for phase in _GOING),
    *(
        Transition(phase, "the worker says that its target is away", lambda f: f.view.is_away, Phase.TARGET_AWAY)
        for phase in _GOING
    ),
    *(
        Transition(phase, "the group reads nothing, and there is something to read", _stands_still, Phase.STANDSTILL)
        for phase in _GOING
    ),
    *(Transition(phase, "as many records wait as may", lambda f: f.room <= 0, Phase.LANE_FULL) for phase in _GOING),
    *(Transition(phase, "nothing speaks against it", lambda _: True, Phase.FLOWING) for phase in _GOING),
)

_BY_PHASE = {phase: tuple(row for row in TRANSITIONS if row.phase is phase) for phase in Phase}
_NO_BOUND: Final = 1 << 62


class ReplayPace:
    """Says how many records may be sent now. It is told what was sent, what a look saw, and the time.

    The canary is the first items of the plan, whether or not an earlier run sent them already: a run that goes on
    watches the same items.
    """

    def __init__(self, limits: PaceLimits, *, burst: int, now_ms: int) -> None:
        self.limits = limits
        self.phase = Phase.CANARY if limits.canary else Phase.FLOWING
        self.sent = 0
        self.view = LaneView(now_ms, canary_open=limits.canary)
        self._canary_is_sent = False
        self._since_view = 0
        self._phase_ms = self._moved_ms = now_ms
        self._looked_ms: int | None = None
        self._bucket = None
        if limits.rate_per_s is not None:
            size = max(1, min(burst, int(limits.rate_per_s)))
            self._bucket = TokenBucket(rate_per_s=limits.rate_per_s, burst=size, now_ms=now_ms)

    def take(self, wanted: int, *, now_ms: int) -> tuple[int, float]:
        """How many of ``wanted`` records may be sent now, and if none, after how many ms to ask again.

        Those that are granted are taken to be sent. In ``CANARY`` nobody may ask for others than the canary's.
        """
        if self.phase not in (Phase.CANARY, Phase.FLOWING):
            return 0, LOOK_SOON_MS
        amount = min(wanted, self._room())
        if amount <= 0:
            return 0, LOOK_SOON_MS
        if self._bucket is not None:
            amount = min(amount, self._bucket.burst)
            if (wait_ms := self._bucket.take(amount, now_ms=now_ms)) > 0:
                return 0, wait_ms
        self.sent += amount
        self._since_view += amount
        return amount, 0.0

    def canary_is_sent(self, *, now_ms: int) -> None:
        """Of the canary nothing is left to be sent."""
        if self.phase is Phase.CANARY:
            self._canary_is_sent = True
            self._step(now_ms)

    def is_look_due(self, now_ms: int) -> bool:
        """Whether it is time to look at the lane again."""
        if self._looked_ms is None:
            return self.phase is not Phase.CANARY
        is_waiting = self.phase not in (Phase.CANARY, Phase.FLOWING) or self._room() <= 0
        return now_ms - self._looked_ms >= (LOOK_SOON_MS if is_waiting else LOOK_MS)

    def look(self, view: LaneView) -> Phase:
        """Take in what a look saw."""
        if view.read_to != self.view.read_to or view.in_lane == 0:
            self._moved_ms = view.at_ms
        self.view = view
        self._looked_ms = view.at_ms
        self._since_view = 0
        self._step(view.at_ms)
        return self.phase

    @property
    def still_ms(self) -> int:
        """For how long the group has read nothing, as of the last look."""
        return self.view.at_ms - self._moved_ms

    def _room(self) -> int:
        limit = self.limits.max_in_lane
        return _NO_BOUND if limit is None else limit - self.view.in_lane - self._since_view

    def _step(self, now_ms: int) -> None:
        facts = _Facts(
            self.limits,
            self.view,
            self.sent,
            self._canary_is_sent,
            now_ms - self._phase_ms,
            self.still_ms,
            self._room(),
        )
        for row in _BY_PHASE[self.phase]:
            if row.guard(facts):
                if row.next is not self.phase:
                    self.phase, self._phase_ms = row.next, now_ms
                return


def canary_of(text: str, items: int) -> int:
    """How many items ``--canary`` means: a number, a percentage (at least one item, at most ``LARGEST_CANARY``), or
    ``none``. A percentage of a plan with fewer than ``SMALL_PLAN`` items is none. Raises ``ValueError``."""
    if text == "none":
        return 0
    if text.endswith("%"):
        share = float(text[:-1])
        if not 0 <= share <= 100:
            raise ValueError("is not between 0% and 100%")
        if items < SMALL_PLAN or share == 0:
            return 0
        return max(1, min(LARGEST_CANARY, int(items * share / 100)))
    if not (text.isascii() and text.isdigit()):
        raise ValueError('is neither a number, nor a share such as "1%", nor "none"')
    return min(int(text), items)


def transition_table() -> str:
    """The state machine as a Markdown table, for the documentation."""
    rows = [f"| {row.phase} | {row.when} | {row.next} |" for row in TRANSITIONS if row.phase not in _GOING[1:]]
    return "\n".join(["| phase | when | next |", "|---|---|---|", *rows])
