"""Who waits behind whom: the messages of one source partition that are in retry lanes, by key.

When a message moves to a retry lane, later messages of its key must not overtake it: they park in the same lane
behind it. Invariants:

* whatever falls due while an earlier message of its key is in the lot parks again, behind it; so the next message of a
  key to be tried is always the one with the smallest origin offset. That holds in whichever lanes they are: one that
  was tried for the first time in a long lane goes on to the shortest, and those behind it follow as they fall due;
* the lot is memory only. What it holds is always recoverable from the lanes, between where the group reads and their
  end, because range assignment gives partition *i* of the source and of every lane to one worker.
"""

from __future__ import annotations

from bisect import bisect_left, insort


class ParkingLot:
    """Messages of one source partition that wait in retry lanes. Offsets are origin offsets, lanes are indexes by
    delay, a due time is that of the copy."""

    __slots__ = ("_by_key", "_count")

    def __init__(self) -> None:
        self._by_key: dict[bytes, tuple[list[int], dict[int, tuple[int, int]]]] = {}
        self._count = 0

    def park(self, key: bytes, offset: int, lane: int, *, due_ms: int) -> None:
        """The message has a copy in ``lane``, due at ``due_ms``; 0 for one that is not written yet. Of several copies
        the one due last is the live one: a copy is made of another no sooner than that was due."""
        entry = self._by_key.setdefault(key, ([], {}))
        known = entry[1].get(offset)
        if known is None:
            insort(entry[0], offset)
            self._count += 1
        if known is None or due_ms >= known[0]:
            entry[1][offset] = due_ms, lane

    def unpark(self, key: bytes, offset: int) -> None:
        """The message is settled; it holds nobody back any more. Unknown ones are ignored."""
        entry = self._by_key.get(key)
        if entry is None or offset not in entry[1]:
            return
        offsets, copies = entry
        del offsets[bisect_left(offsets, offset)]
        del copies[offset]
        self._count -= 1
        if not offsets:
            del self._by_key[key]

    def contains(self, key: bytes, offset: int) -> bool:
        """Whether this very message has a copy in a lane."""
        entry = self._by_key.get(key)
        return entry is not None and offset in entry[1]

    def is_live(self, key: bytes, offset: int, *, due_ms: int) -> bool:
        """Whether no copy of the message is known that is due later than ``due_ms``."""
        entry = self._by_key.get(key)
        return entry is None or entry[1].get(offset, (0, 0))[0] <= due_ms

    def lane_ahead(self, key: bytes, offset: int) -> int | None:
        """The lane of the nearest earlier message of the key, behind which this one must park; None where it may
        run."""
        entry = self._by_key.get(key)
        if entry is None:
            return None
        index = bisect_left(entry[0], offset)
        return entry[1][entry[0][index - 1]][1] if index else None

    def __len__(self) -> int:
        return self._count
