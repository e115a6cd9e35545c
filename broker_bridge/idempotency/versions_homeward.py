"""Newest versions that were completed while the store was away, on their way home into it."""

from __future__ import annotations

from collections.abc import Mapping

from broker_bridge.idempotency.base import IdempotencyStore


class VersionsHomeward:
    """At most ``limit`` record keys of one group, the newest; ``dropped`` counts those beyond it."""

    def __init__(self, store: IdempotencyStore, *, limit: int) -> None:
        self._store = store
        self._limit = limit
        self._group = ""
        self._ttl_ms = 0
        self._kept: dict[bytes, int] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, group: str, versions: Mapping[bytes, int], *, ttl_ms: int) -> None:
        """Keep these until ``write``."""
        self._group, self._ttl_ms = group, ttl_ms
        for key, version in versions.items():
            known = self._kept.pop(key, version)
            self._kept[key] = max(version, known)
        while len(self._kept) > self._limit:
            del self._kept[next(iter(self._kept))]
            self.dropped += 1

    async def write(self) -> None:
        """Write all of them home. Raises ``StoreError``; then they go again."""
        if self._kept:
            written = dict(self._kept)
            await self._store.advance(self._group, written, ttl_ms=self._ttl_ms)
            self._kept = {key: kept for key, kept in self._kept.items() if kept != written.get(key)}
