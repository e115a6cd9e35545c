"""What a series of audits says: whether the books of a route balance, as an alert may be built on it.

A single audit that objects to something is looked at again before anybody is woken: a target's list may be written a
moment after the target answered, and Redis may be failing over. Only what two rounds in a row object to counts::

    round      balances          objects            objects            balances
    standing   BALANCED ───────▶ SUSPECT ─────────▶ UNBALANCED ──────▶ BALANCED
               healthy           as it was before   not healthy        healthy
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass

CONFIRM_AFTER_MS = 5_000
"""A round that objects for the first time is repeated after so long."""
OLDEST_ROUNDS = 3
"""A round that has not ended after so many intervals (and at least ``LEAST_PATIENCE_MS``) is too old to speak."""
LEAST_PATIENCE_MS = 600_000


class Standing(enum.StrEnum):
    """What is known now."""

    STARTING = "starting"
    BALANCED = "balanced"
    SUSPECT = "suspect"
    """The last round objects to something that the one before it did not."""
    UNBALANCED = "unbalanced"
    FAILED = "failed"
    """The last round could not finish: nothing is known."""


@dataclass(slots=True)
class AuditStanding:
    """Follows the rounds of one route. ``balanced`` is what was last confirmed, None before anything was; times in ms
    since the epoch."""

    every_ms: int
    standing: Standing = Standing.STARTING
    balanced: bool | None = None
    reasons: tuple[str, ...] = ()
    last_end_ms: int | None = None
    _objected: frozenset[str] = frozenset()

    def ended(self, kinds: Collection[str], reasons: Collection[str], *, now_ms: int) -> None:
        """A round ended. ``kinds`` of objections are compared with those of the last one, ``reasons`` are told."""
        found, self.last_end_ms, self.reasons = frozenset(kinds), now_ms, tuple(reasons)
        if not found:
            self.standing, self.balanced = Standing.BALANCED, True
        elif self.balanced is False or found & self._objected:
            self.standing, self.balanced = Standing.UNBALANCED, False
        else:
            self.standing = Standing.SUSPECT
        self._objected = found

    def failed(self, reason: str) -> None:
        """A round could not finish. What was confirmed before it is not forgotten."""
        self.standing, self.reasons = Standing.FAILED, (reason,)

    @property
    def next_in_ms(self) -> int:
        """How long to wait for the next round."""
        return min(self.every_ms, CONFIRM_AFTER_MS) if self.standing is Standing.SUSPECT else self.every_ms

    def health(self, *, now_ms: int) -> tuple[bool, str]:
        """Whether all is well, and why."""
        told = "; ".join(self.reasons)
        if self.standing is Standing.STARTING:
            return False, "no audit has ended yet"
        if self.standing is Standing.FAILED:
            return False, f"the last audit failed: {told}"
        if self._is_old(now_ms):
            return False, "the last audit that ended is too old"
        if self.standing is Standing.SUSPECT:
            return self.balanced is True, f"being looked at again: {told}"
        return self.standing is Standing.BALANCED, told or "the books balance"

    def _is_old(self, now_ms: int) -> bool:
        longest_ms = max(OLDEST_ROUNDS * self.every_ms, LEAST_PATIENCE_MS)
        return self.last_end_ms is None or now_ms - self.last_end_ms > longest_ms
