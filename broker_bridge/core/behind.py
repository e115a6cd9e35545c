"""Who waits in hand behind an earlier message of its key that is in a retry lane.

A message that falls due in its lane while an earlier one of its key is still in one (``core/parking.py``) could be
copied to the end of that lane again; with a long queue of one key that is a copy of the whole queue for each message
that fails. So it waits here, by key and origin offset, until it is called or has waited long enough. How many may wait
is bounded, so that there is always room to read on to the copy they wait for::

    lane     m51 m52 … m99 m50'        m50' is the one they all wait for: what is before it in the log has to be read
    in hand  m51 m52 … m99             first, and stays in hand; beyond the bound it is copied behind m50'
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T", bound=Hashable)


class _Place(NamedTuple):
    key: Hashable
    offset: int
    serial: int
    size: int
    until_ms: int


class Behind(Generic[T]):
    """At most ``most`` items of together ``most_bytes``. ``until_ms`` never falls from one item to the next."""

    __slots__ = ("_by_key", "_bytes", "_most", "_most_bytes", "_places", "_serial")

    def __init__(self, *, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._by_key: dict[Hashable, list[tuple[int, int, T]]] = {}
        self._places: dict[T, _Place] = {}
        self._serial = self._bytes = 0

    def wait(self, key: Hashable, offset: int, item: T, *, size: int, until_ms: int) -> bool:
        """Take an item in; false where there is no room for it."""
        if len(self._places) >= self._most or self._bytes + size > self._most_bytes:
            return False
        self._serial += 1
        self._bytes += size
        self._places[item] = _Place(key, offset, self._serial, size, until_ms)
        insort(self._by_key.setdefault(key, []), (offset, self._serial, item))
        return True

    def first(self, key: Hashable) -> T | None:
        """The one of the key with the smallest offset."""
        row = self._by_key.get(key)
        return row[0][2] if row else None

    def remove(self, item: T) -> None:
        """It waits no longer."""
        place = self._places.pop(item)
        self._bytes -= place.size
        row = self._by_key[place.key]
        del row[bisect_left(row, (place.offset, place.serial))]
        if not row:
            del self._by_key[place.key]

    def overdue(self, now_ms: int) -> list[T]:
        """Remove what has waited long enough, and return it."""
        found: list[T] = []
        for item, place in self._places.items():
            if place.until_ms > now_ms:
                break
            found.append(item)
        return self._without(found)

    def drop(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Remove what is unwanted, and return it."""
        return self._without([item for item in self._places if unwanted(item)])

    def _without(self, items: list[T]) -> list[T]:
        for item in items:
            self.remove(item)
        return items

    def __contains__(self, item: T) -> bool:
        return item in self._places

    def __len__(self) -> int:
        return len(self._places)
