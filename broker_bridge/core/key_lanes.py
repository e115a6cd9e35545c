"""Which messages may run now: many at once, but one at a time per lane and in the order they came.

A *lane key* is what order is kept within: (partition, key) for order ``key``, the partition for order ``partition``,
something unique for order ``none``. The head of a lane stays in place while it runs and while it waits for a retry, so
nothing overtakes it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class KeyLanes(Generic[T]):
    """A queue of queues. Every operation is constant time, or logarithmic in the number of postponed heads."""

    __slots__ = ("_delayed", "_lanes", "_ready", "_serial", "_waiting")

    def __init__(self) -> None:
        self._lanes: dict[Hashable, deque[T]] = {}
        self._ready: deque[Hashable] = deque()
        self._delayed: list[tuple[int, int, Hashable]] = []
        self._serial = 0
        self._waiting = 0

    def offer(self, lane: Hashable, item: T) -> None:
        """Put an item at the end of its lane."""
        queue = self._lanes.get(lane)
        if queue is None:
            self._lanes[lane] = deque((item,))
            self._ready.append(lane)
        else:
            queue.append(item)
        self._waiting += 1

    def take(self, now_ms: int) -> T | None:
        """The next item that may run; it is its lane's head and stays so until ``release`` or ``postpone``."""
        if self._delayed:
            self._wake(now_ms)
        if not self._ready:
            return None
        self._waiting -= 1
        return self._lanes[self._ready.popleft()][0]

    def release(self, lane: Hashable) -> None:
        """The head is done; the lane's next item may run."""
        queue = self._lanes[lane]
        queue.popleft()
        if queue:
            self._ready.append(lane)
        else:
            del self._lanes[lane]

    def is_head(self, lane: Hashable, item: T) -> bool:
        """Whether the item is the one of its lane that runs or is to run next."""
        queue = self._lanes.get(lane)
        return queue is not None and queue[0] is item

    def postpone(self, lane: Hashable, *, due_ms: int) -> None:
        """The head that was taken is to run again, not before ``due_ms``; its lane waits with it."""
        self._serial += 1
        self._waiting += 1
        heapq.heappush(self._delayed, (due_ms, self._serial, lane))

    def next_due_ms(self) -> int | None:
        """When the first postponed head falls due; None without any."""
        return self._delayed[0][0] if self._delayed else None

    def drop(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Remove what waits and is unwanted, and return it; a head that runs stays until it is released.

        What stands behind a postponed head that goes does not inherit its wait.
        """
        heads = {lane: self._lanes[lane][0] for _, _, lane in self._delayed}
        idle = heads.keys() | set(self._ready)
        dropped: list[T] = []
        for lane in list(self._lanes):
            dropped.extend(self._drop_from(lane, lane in idle, unwanted))
        self._ready = deque(lane for lane in self._ready if lane in self._lanes)
        delayed = [entry for entry in self._delayed if entry[2] in self._lanes]
        kept = {lane for _, _, lane in delayed if self._lanes[lane][0] is heads[lane]}
        self._ready.extend(lane for _, _, lane in delayed if lane not in kept)
        self._delayed = [entry for entry in delayed if entry[2] in kept]
        heapq.heapify(self._delayed)
        self._waiting -= len(dropped)
        return dropped

    def _drop_from(self, lane: Hashable, head_waits: bool, unwanted: Callable[[T], bool]) -> list[T]:
        queue = self._lanes[lane]
        kept = deque[T]() if head_waits else deque((queue.popleft(),))
        gone: list[T] = []
        for item in queue:
            (gone if unwanted(item) else kept).append(item)
        if kept:
            self._lanes[lane] = kept
        else:
            del self._lanes[lane]
        return gone

    def _wake(self, now_ms: int) -> None:
        delayed = self._delayed
        while delayed and delayed[0][0] <= now_ms:
            self._ready.append(heapq.heappop(delayed)[2])

    @property
    def ready(self) -> int:
        """How many lanes have a head that may run at once (postponed ones that fell due since the last ``take`` not
        counted)."""
        return len(self._ready)

    @property
    def waiting(self) -> int:
        """How many items are in the lanes and not running."""
        return self._waiting

    def __contains__(self, lane: Hashable) -> bool:
        """Whether the lane has any item, running or waiting."""
        return lane in self._lanes

    def __iter__(self) -> Iterator[T]:
        for queue in self._lanes.values():
            yield from queue
