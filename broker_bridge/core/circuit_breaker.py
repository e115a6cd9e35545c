"""Telling an outage from poison: a circuit breaker over *keys*, not over calls.

One message that fails again and again is poison, whatever it fails with; many keys that fail alike on one target are
an outage.
So the breaker opens only when failures of the outage kind (timeouts, refused connections, 5xx) come from several keys.
A failure that no message can cause speaks for every key: each counts as one of its own.

=========== ============================ =========== ==============================================
state       event                        next        what it means
=========== ============================ =========== ==============================================
CLOSED      window says outage           OPEN        the route pauses; polling goes on
OPEN        ``open_ms`` passed           HALF_OPEN   real messages probe, ``probes`` at a time
HALF_OPEN   a probe succeeds             CLOSED      the window is empty, delays start over
HALF_OPEN   a probe fails                OPEN        twice as long, up to ``max_open_ms``
OPEN        any late result              OPEN        it began before; it says nothing of now
=========== ============================ =========== ==============================================
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass

_SUCCESS = (True, None)


class BreakerState(enum.IntEnum):
    """The numbers are the values of the ``breaker_state`` metric."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@dataclass(frozen=True)
class BreakerPolicy:
    """``window`` outcomes are looked at; it is an outage when at least ``min_failures`` of them failed, from at least
    ``min_keys`` keys, and they are at least ``failure_ratio`` of all."""

    window: int = 50
    min_failures: int = 5
    min_keys: int = 3
    failure_ratio: float = 0.5
    open_ms: int = 1_000
    max_open_ms: int = 30_000
    probes: int = 1


class CircuitBreaker:
    """The state of one target as its outcomes tell it."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._outcomes: deque[tuple[bool, object]] = deque(maxlen=policy.window)
        self._state = BreakerState.CLOSED
        self._open_ms = policy.open_ms
        self._reopen_at_ms = 0
        self._probes = 0
        self._answered_ms = -1
        self._opened_ms = -1

    def state(self, now_ms: int) -> BreakerState:
        """The state now; an open breaker whose time is up is half open."""
        if self._state is BreakerState.OPEN and now_ms >= self._reopen_at_ms:
            self._state = BreakerState.HALF_OPEN
            self._probes = 0
        return self._state

    @property
    def is_closed(self) -> bool:
        """Whether it is closed, which passing time does not change."""
        return self._state is BreakerState.CLOSED

    def may_admit(self, now_ms: int) -> bool:
        """Whether one more message may be tried now."""
        state = self.state(now_ms)
        return state is BreakerState.CLOSED or (state is BreakerState.HALF_OPEN and self._probes < self._policy.probes)

    def admitted(self, now_ms: int) -> bool:
        """A message that ``may_admit`` allowed is being tried; true where it is one of the probes."""
        is_probe = self.state(now_ms) is BreakerState.HALF_OPEN
        self._probes += is_probe
        return is_probe

    def succeeded(self, key: object, now_ms: int, *, began_ms: int = -1) -> None:
        """The target took a message, which was begun at ``began_ms`` where that is known: the target is there."""
        state = self.state(now_ms)
        self._answered_ms = max(self._answered_ms, began_ms)
        if state is BreakerState.HALF_OPEN:
            self._state = BreakerState.CLOSED
            self._open_ms = self._policy.open_ms
            self._outcomes.clear()
        elif state is BreakerState.CLOSED:
            self._outcomes.append((True, key))

    def took(self, began_ms: int) -> None:
        """As ``succeeded``, for a breaker that ``is_closed``: what nearly every message comes to, in 0.2 µs."""
        if began_ms > self._answered_ms:
            self._answered_ms = began_ms
        self._outcomes.append(_SUCCESS)

    def failed(self, key: object, now_ms: int) -> None:
        """A message failed in a way that the target itself may be the cause of."""
        state = self.state(now_ms)
        if state is BreakerState.HALF_OPEN:
            self._open_ms = min(self._open_ms * 2, self._policy.max_open_ms)
            self._open(now_ms)
        elif state is BreakerState.CLOSED:
            self._outcomes.append((False, key))
            if self._is_outage():
                self._open(now_ms)

    def answered_since(self, since_ms: int) -> bool:
        """Whether the target took a message that was begun after ``since_ms``, and was not away in between: what failed
        before and fails again does so by itself."""
        return self._answered_ms > since_ms > self._opened_ms

    def abandoned(self, now_ms: int) -> None:
        """A message that was admitted ended without saying anything of the target; its probe is free again."""
        if self.state(now_ms) is BreakerState.HALF_OPEN and self._probes:
            self._probes -= 1

    def reopens_in_ms(self, now_ms: int) -> int:
        """How long until the next probe; 0 unless open."""
        return max(0, self._reopen_at_ms - now_ms) if self._state is BreakerState.OPEN else 0

    def _is_outage(self) -> bool:
        policy, failed = self._policy, [key for ok, key in self._outcomes if not ok]
        return (
            len(failed) >= policy.min_failures
            and len(set(failed)) >= policy.min_keys
            and len(failed) >= policy.failure_ratio * len(self._outcomes)
        )

    def _open(self, now_ms: int) -> None:
        self._state = BreakerState.OPEN
        self._opened_ms = now_ms
        self._reopen_at_ms = now_ms + self._open_ms
        self._outcomes.clear()
