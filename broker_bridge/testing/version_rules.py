"""What must hold of replays where a record key has versions (I13): none puts an older over a newer one, and none is
turned away for nothing."""

from __future__ import annotations

from collections.abc import Callable

from broker_bridge.message import Record

Lane = tuple[int, bytes]
"""Partition and record key."""
VersionOf = Callable[[Record], int]


class VersionRules:
    """Knows the versions that had their effect, and those that were completed, by record key. ``version_of`` reads a
    source record's; None where the route has no versions, and nothing is judged."""

    def __init__(self, version_of: VersionOf | None) -> None:
        self._version_of = version_of
        self._effects: dict[Lane, int] = {}
        self._completed: dict[Lane, int] = {}

    def had_effect(self, record: Record) -> None:
        """The handler acted on it."""
        self._note(self._effects, record)

    def completed(self, record: Record) -> None:
        """Its claim says so."""
        self._note(self._completed, record)

    def is_behind(self, record: Record) -> bool:
        """Whether a newer version of its key was completed: a replay of it must not start."""
        version, lane = self._read(record)
        return version is not None and version < self._completed.get(lane, version)

    def has_newer(self, record: Record) -> bool:
        """Whether a newer version of its key had its effect: without one nothing is turned away."""
        version, lane = self._read(record)
        return version is not None and version < self._effects.get(lane, version)

    def _note(self, newest: dict[Lane, int], record: Record) -> None:
        version, lane = self._read(record)
        if version is not None:
            newest[lane] = max(version, newest.get(lane, version))

    def _read(self, record: Record) -> tuple[int | None, Lane]:
        if self._version_of is None or record.key is None:
            return None, (record.partition, b"")
        return self._version_of(record), (record.partition, record.key)
