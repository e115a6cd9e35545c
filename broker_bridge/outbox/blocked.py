"""Topics that do not take events now, and how long to leave each alone. Other topics go on meanwhile."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass

from broker_bridge.errors import TransportError


class Backoff:
    """Doubles from ``base_ms`` to ``max_ms``, and picks a delay from the upper half, so that relays do not march in
    step."""

    def __init__(self, base_ms: int, max_ms: int, rng: random.Random) -> None:
        self._base_ms = base_ms
        self._max_ms = max_ms
        self._rng = rng

    def delay_ms(self, failures: int) -> int:
        """The delay after so many failures in a row, from 1."""
        whole = min(self._max_ms, self._base_ms << min(failures - 1, 30))
        return round(whole * self._rng.uniform(0.5, 1.0))


@dataclass(slots=True)
class _Blocked:
    until_ms: int
    failures: int
    error: TransportError


class BlockedTopics:
    """Which topics are to be left alone, and until when."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._topics: dict[str, _Blocked] = {}

    @property
    def last_error(self) -> TransportError | None:
        """Why the topic blocked last is, None where none is blocked."""
        return next((found.error for found in reversed(self._topics.values())), None)

    def block(self, topic: str, error: TransportError, now_ms: int) -> int:
        """Leave it alone for longer than the last time; how long, in ms."""
        earlier = self._topics.pop(topic, None)
        failures = earlier.failures + 1 if earlier is not None else 1
        delay_ms = self._backoff.delay_ms(failures)
        self._topics[topic] = _Blocked(now_ms + delay_ms, failures, error)
        return delay_ms

    def open(self, topics: Collection[str]) -> list[str]:
        """These took events: forget that they did not; which of them had been blocked."""
        opened = sorted(topic for topic in topics if topic in self._topics)
        for topic in opened:
            del self._topics[topic]
        return opened

    def now(self, now_ms: int) -> list[str]:
        """Topics to be left alone now."""
        return sorted(topic for topic, blocked in self._topics.items() if blocked.until_ms > now_ms)
