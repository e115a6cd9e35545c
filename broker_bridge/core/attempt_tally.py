"""How often a target was tried within the last seconds, by whoever reports it: kept by the second."""

from __future__ import annotations

SLOT_MS = 1_000
MAX_COUNT = 2**32 - 1


class AttemptTally:
    """Counts of one name. Those who ask for windows of different lengths see the same counts.

    The same rules in Redis: ``idempotency/tally.lua``.
    """

    __slots__ = ("_keep_ms", "_slots")

    def __init__(self) -> None:
        self._keep_ms = 0
        self._slots: dict[int, tuple[int, int]] = {}

    def add(self, first: int, again: int, *, now_ms: int, window_ms: int) -> tuple[int, int]:
        """Count, and return the sums of every second that is at least in part within ``window_ms``.

        Seconds beyond every window asked for are forgotten, and so are those to come: the clock went back.
        """
        now_s = now_ms // SLOT_MS
        self._keep_ms = max(self._keep_ms, window_ms)
        oldest_kept_s = _first_second(now_ms, self._keep_ms)
        self._slots = {s: counts for s, counts in self._slots.items() if oldest_kept_s <= s <= now_s}
        if first or again:
            before = self._slots.get(now_s, (0, 0))
            self._slots[now_s] = (min(before[0] + first, MAX_COUNT), min(before[1] + again, MAX_COUNT))
        within = [counts for s, counts in self._slots.items() if s >= _first_second(now_ms, window_ms)]
        return sum(counts[0] for counts in within), sum(counts[1] for counts in within)


def _first_second(now_ms: int, window_ms: int) -> int:
    """The first second that does not end before the window begins."""
    return (now_ms - window_ms) // SLOT_MS
