"""The first unsettled offset of a partition: the only offset that may be committed (invariant I3)."""

from __future__ import annotations

from collections import deque


class Watermark:
    """Tracks the offsets read from one partition and says what may be committed.

    Offsets are tracked in the order they are read (ascending; gaps left by compaction and transactions are fine) and
    settled in any order. Cost is constant per record, memory is bounded by what is in flight.
    """

    __slots__ = ("_next", "_open", "_settled")

    def __init__(self) -> None:
        self._open: deque[int] = deque()
        self._settled: set[int] = set()
        self._next: int | None = None

    def track(self, offset: int) -> None:
        """An offset was read and now needs to be settled. Raises ``ValueError`` when it does not follow the last
        one."""
        if self._next is not None and offset < self._next:
            raise ValueError(f"offset {offset} was tracked after {self._next - 1}")
        self._open.append(offset)
        self._next = offset + 1

    def has_read(self, offset: int) -> bool:
        """Whether the offset, or one behind it, was tracked before."""
        return self._next is not None and offset < self._next

    def settle(self, offset: int) -> None:
        """The tracked ``offset`` needs no further work. Settling twice is harmless, as is one that was not read yet."""
        opened = self._open
        if not opened or not opened[0] <= offset <= opened[-1]:
            return
        if opened[0] != offset:
            self._settled.add(offset)
            return
        opened.popleft()
        while opened and opened[0] in self._settled:
            self._settled.discard(opened.popleft())

    @property
    def committable(self) -> int | None:
        """The next offset the group should read: the first unsettled one. None where nothing was read yet."""
        return self._open[0] if self._open else self._next

    @property
    def unsettled(self) -> int:
        """How many tracked offsets are not settled."""
        return len(self._open) - len(self._settled)

    @property
    def span(self) -> int:
        """How many offsets lie between the watermark and the last one read: what a crash would read again."""
        return len(self._open)
