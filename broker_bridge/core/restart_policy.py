"""What becomes of all worker processes when one of them has ended.

| it ended | what becomes of it |
|---|---|
| with a status that no restart mends: bad configuration, no such topic, unsafe settings | all end, with that status |
| because Kafka or Redis was away, early in its first life | all end, with that status, as one worker does |
| the same in a later life | it is started again, however often |
| in any other way, after a long life | it is started again soon |
| in any other way, after a short life | it is started again, each time twice as late |
| in any other way, after too many short lives in a row | all end |
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from broker_bridge.core.retry import backoff_ms

BEYOND_RESTART: Final = frozenset({2, 3, 5})
"""Exit statuses of a worker whose next start would end alike."""

SERVERS_AWAY: Final = 4
"""Exit status of a worker that could not reach Kafka or Redis at its start."""

INTERRUPTED: Final = 130
BY_SIGNAL: Final = 128
"""What a shell adds to the number of the signal that ended a process."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Delays grow from ``first_delay_ms`` to ``longest_delay_ms``; a life of ``steady_ms`` clears the past; the last
    of ``most_short_lives`` in a row is the end of all."""

    first_delay_ms: int = 500
    longest_delay_ms: int = 30_000
    steady_ms: int = 60_000
    most_short_lives: int = 5


@dataclass(frozen=True, slots=True)
class Past:
    """The lives of one process: how many have ended, how many in a row were short, and how many of those it crashed."""

    lives: int = 0
    short: int = 0
    crashes: int = 0


@dataclass(frozen=True, slots=True)
class StartAgain:
    """Start it again ``after_ms``; ``past`` is what to decide by when it ends next."""

    after_ms: int
    past: Past


@dataclass(frozen=True, slots=True)
class EndAll:
    """End every process. ``status`` is what all end with; None where one ended too often."""

    status: int | None


def after_end(policy: RestartPolicy, past: Past, *, status: int, lived_ms: int) -> StartAgain | EndAll:
    """What follows when a process that was not asked to end has ended with ``status`` (a signal as its negative number)
    after ``lived_ms``."""
    steady = lived_ms >= policy.steady_ms
    away = status == SERVERS_AWAY
    if status in BEYOND_RESTART or (away and not past.lives and not steady):
        return EndAll(status)
    if steady:
        return StartAgain(policy.first_delay_ms, Past(past.lives + 1))
    now = Past(past.lives + 1, past.short + 1, past.crashes if away else past.crashes + 1)
    if now.crashes >= policy.most_short_lives:
        return EndAll(None)
    delay_ms = backoff_ms(
        now.short, base_ms=policy.first_delay_ms, max_ms=policy.longest_delay_ms, jitter=0.0, chance=0.0
    )
    return StartAgain(delay_ms, now)


def worst_status(statuses: Iterable[int]) -> int:
    """What a command ends with whose processes were asked to end and ended so: the highest.

    One that the request itself ended had not begun to work: nothing is wrong with it.
    """
    return max((_as_shown(status) for status in statuses), default=0)


def _as_shown(status: int) -> int:
    if status in (-signal.SIGTERM, -signal.SIGINT, INTERRUPTED):
        return 0
    return status if status >= 0 else BY_SIGNAL - status
