"""How many retries a target is given: a share of its first attempts, plus a floor (Finagle's and Linkerd's retry
budget).

When a target is in trouble every message would be tried several times, and the retries alone would keep it in
trouble. So within a
sliding window at most ``ratio`` times the first attempts, plus ``floor_per_s`` a second, may be retries, whoever
makes them: all workers
of all processes count together, replays included. A retry that the budget does not allow waits; no attempt is spent.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class BudgetPolicy:
    """``ratio`` of first attempts, plus ``floor_per_s`` retries a second, both over ``window_ms``."""

    ratio: float = 0.2
    floor_per_s: float = 10.0
    window_ms: int = 10_000


class RetryBudget:
    """The budget of one target as one worker knows it: what it did itself, and what all others reported.

    Counts made here are kept until ``unreported`` hands them to whoever shares them; ``report`` brings back the sum
    over everyone. Between
    two reports this worker may overdraw by what the others do in that time, which is the price of not asking for
    each retry.
    """

    __slots__ = ("_first", "_marks", "_policy", "_retries", "_shared", "_unreported")

    def __init__(self, policy: BudgetPolicy) -> None:
        self._policy = policy
        self._marks: deque[tuple[int, int, int]] = deque()
        self._first = 0
        self._retries = 0
        self._unreported = [0, 0]
        self._shared = (0, 0)

    def attempted(self, now_ms: int) -> None:
        """A first attempt was made."""
        self._count(now_ms, 1, 0)

    def retried(self, now_ms: int) -> None:
        """A retry was made."""
        self._count(now_ms, 0, 1)

    def allows(self, now_ms: int) -> bool:
        """Whether one more retry is within the budget now."""
        self._forget(now_ms)
        first = self._first + self._shared[0]
        retries = self._retries + self._shared[1]
        return retries < self._policy.ratio * first + self._policy.floor_per_s * self._policy.window_ms / 1000

    def unreported(self) -> tuple[int, int]:
        """First attempts and retries since the last call, to be shared."""
        first, retries = self._unreported
        self._unreported = [0, 0]
        return first, retries

    def report(self, first: int, retries: int, now_ms: int) -> None:
        """What everyone together did within the window, this worker included."""
        self._forget(now_ms)
        unreported = self._unreported
        self._shared = (
            max(0, first - self._first + unreported[0]),
            max(0, retries - self._retries + unreported[1]),
        )

    def _count(self, now_ms: int, first: int, retries: int) -> None:
        slot_ms = now_ms - now_ms % 100
        if self._marks and self._marks[-1][0] == slot_ms:
            last = self._marks.pop()
            self._marks.append((slot_ms, last[1] + first, last[2] + retries))
        else:
            self._marks.append((slot_ms, first, retries))
        self._first += first
        self._retries += retries
        self._unreported[0] += first
        self._unreported[1] += retries

    def _forget(self, now_ms: int) -> None:
        oldest = now_ms - self._policy.window_ms
        while self._marks and self._marks[0][0] <= oldest:
            _, first, retries = self._marks.popleft()
            self._first -= first
            self._retries -= retries
