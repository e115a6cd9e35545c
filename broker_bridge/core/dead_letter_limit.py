"""When dead letters stop being exceptions: a limit that stops a route instead of draining it into its dead-letter
topic.

A bad deploy that refuses every message looks, message by message, like poison. The limit sees the rate: more than
``count`` dead letters within ``window_ms`` and the route stops with an alarm, the messages still in Kafka.
"""

from __future__ import annotations

from collections import deque


class DeadLetterLimit:
    """Counts dead letters in a sliding window. Once reached it stays reached: a person decides how to go on."""

    __slots__ = ("_count", "_times_ms", "_window_ms", "reached")

    def __init__(self, *, count: int, window_ms: int) -> None:
        self._count = count
        self._window_ms = window_ms
        self._times_ms: deque[int] = deque(maxlen=count + 1)
        self.reached = False

    def allows(self, now_ms: int) -> bool:
        """Whether one more message may be dead-lettered now; a true answer counts it."""
        if self.reached:
            return False
        times_ms = self._times_ms
        while times_ms and times_ms[0] <= now_ms - self._window_ms:
            times_ms.popleft()
        if len(times_ms) >= self._count:
            self.reached = True
            return False
        times_ms.append(now_ms)
        return True
