"""Who waits behind whom: the messages of one source partition that are in retry lanes, by key.

When a message moves to a retry lane, later messages of its key must not overtake it: they park in the same lane
behind it. Invariants:

* for one key, an earlier message is never in an earlier lane than a later one (lanes are ordered by delay), and
within a lane the log
  keeps them in order; so the next message to be tried is always the one with the smallest origin offset;
* the lot is memory only. What it holds is always recoverable from the lanes between the group's committed offset and
their end,
  because range assignment gives partition *i* of the source and of every lane to one worker.
"""

from __future__ import annotations

from bisect import bisect_left, insort


class ParkingLot:
    """Messages of one source partition that wait in retry lanes. Offsets are origin offsets, lanes are indexes by
    delay."""

    __slots__ = ("_by_key", "_count")

    def __init__(self) -> None:
        self._by_key: dict[bytes, tuple[list[int], dict[int, int]]] = {}
        self._count = 0

    def park(self, key: bytes, offset: int, lane: int) -> None:
        """The message is now in ``lane``. A copy seen in an earlier lane than the known one is an old copy and
        changes nothing."""
        entry = self._by_key.setdefault(key, ([], {}))
        known = entry[1].get(offset)
        if known is None:
            insort(entry[0], offset)
            self._count += 1
        if known is None or lane > known:
            entry[1][offset] = lane

    def unpark(self, key: bytes, offset: int) -> None:
        """The message is settled; it holds nobody back any more. Unknown ones are ignored."""
        entry = self._by_key.get(key)
        if entry is None or offset not in entry[1]:
            return
        offsets, lanes = entry
        del offsets[bisect_left(offsets, offset)]
        del lanes[offset]
        self._count -= 1
        if not offsets:
            del self._by_key[key]

    def contains(self, key: bytes, offset: int) -> bool:
        """Whether this very message has a copy in a lane."""
        entry = self._by_key.get(key)
        return entry is not None and offset in entry[1]

    def lane_ahead(self, key: bytes, offset: int) -> int | None:
        """The lane of the nearest earlier message of the key, behind which this one must park; None where it may
        run."""
        entry = self._by_key.get(key)
        if entry is None:
            return None
        index = bisect_left(entry[0], offset)
        return entry[1][entry[0][index - 1]] if index else None

    def __len__(self) -> int:
        return self._count
