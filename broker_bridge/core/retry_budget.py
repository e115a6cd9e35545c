"""How many retries a target is given: a share of its first attempts, plus a floor (Finagle's and Linkerd's retry
budget).

When a target is in trouble every message would be tried several times, and the retries alone would keep it in trouble.
So within a sliding window at most ``ratio`` times the first attempts, plus ``floor_per_s`` a second, may be retries,
whoever makes them: all workers of all processes count together, replays included. A retry that the budget does not
allow waits; no attempt is spent.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class BudgetPolicy:
    """``ratio`` of first attempts, plus ``floor_per_s`` retries a second, both over ``window_ms``."""

    ratio: float = 0.2
    floor_per_s: float = 10.0
    window_ms: int = 10_000


_SPENT_SLOWLY = 3


class RetryBudget:
    """The budget of one target as one worker knows it: what it did itself, and what all others reported.

    Counts made here are kept until ``unreported`` hands them to whoever shares them; ``report`` brings back the sum
    over everyone. Until the next report this worker spends no more than a third of its part of what is left (its part
    of all attempts), and one retry at least: many workers see the same room, and none knows yet what the others have
    just done. Without a report for a window, the others count no more: the budget is this worker's.
    """

    __slots__ = ("_first", "_marks", "_part", "_policy", "_reported_ms", "_retries", "_shared", "_unreported")

    def __init__(self, policy: BudgetPolicy) -> None:
        self._policy = policy
        self._marks: deque[list[int]] = deque()
        self._first = 0
        self._retries = 0
        self._unreported = [0, 0]
        self._shared = (0, 0)
        self._reported_ms = 0
        self._part: float | None = None

    @property
    def window_ms(self) -> int:
        """The window of the policy."""
        return self._policy.window_ms

    def attempted(self, now_ms: int, count: int = 1) -> None:
        """First attempts were made."""
        self._count(now_ms, count, 0)

    def retried(self, now_ms: int) -> None:
        """A retry was made."""
        self._count(now_ms, 0, 1)

    def allows(self, now_ms: int) -> bool:
        """Whether one more retry is within the budget now."""
        return self.left(now_ms) > 0

    def left(self, now_ms: int) -> int:
        """How many more retries are within the budget now."""
        self._forget(now_ms)
        room = self._room()
        if self._part is not None:
            room = min(room, self._part)
        return max(0, math.ceil(room))

    def unreported(self) -> tuple[int, int]:
        """First attempts and retries since the last call, to be shared."""
        first, retries = self._unreported
        self._unreported = [0, 0]
        return first, retries

    def report(self, first: int, retries: int, now_ms: int) -> None:
        """What everyone together did within the window, this worker included."""
        self._forget(now_ms)
        self._reported_ms = now_ms
        unreported = self._unreported
        self._shared = (
            max(0, first - self._first + unreported[0]),
            max(0, retries - self._retries + unreported[1]),
        )
        ours = self._first + self._retries
        everyones = ours + sum(self._shared)
        self._part = max(1.0, self._room() * ours / everyones / _SPENT_SLOWLY) if everyones > ours else None

    def _room(self) -> float:
        first, retries = self._first + self._shared[0], self._retries + self._shared[1]
        return self._policy.ratio * first + self._policy.floor_per_s * self._policy.window_ms / 1000 - retries

    def _count(self, now_ms: int, first: int, retries: int) -> None:
        slot_ms = now_ms - now_ms % 100
        if self._marks and self._marks[-1][0] == slot_ms:
            last = self._marks[-1]
            last[1] += first
            last[2] += retries
        else:
            self._marks.append([slot_ms, first, retries])
        self._first += first
        self._retries += retries
        self._unreported[0] += first
        self._unreported[1] += retries
        if self._part is not None:
            self._part += self._policy.ratio * first - retries

    def _forget(self, now_ms: int) -> None:
        oldest = now_ms - self._policy.window_ms
        if self._reported_ms <= oldest:
            self._shared, self._part = (0, 0), None
        while self._marks and self._marks[0][0] <= oldest:
            _, first, retries = self._marks.popleft()
            self._first -= first
            self._retries -= retries
