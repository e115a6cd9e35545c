"""A rate limit as arithmetic: a bucket that fills with time and is emptied by work."""

from __future__ import annotations


class TokenBucket:
    """At most ``rate_per_s`` a second, in bursts of at most ``burst``; starts full.

    Never lets more than ``burst + rate_per_s × elapsed`` through, whatever the calls look like. Time that runs
    backwards counts as no time.
    """

    __slots__ = ("_burst", "_rate_per_ms", "_tokens", "_updated_ms")

    def __init__(self, *, rate_per_s: float, burst: int, now_ms: float) -> None:
        if rate_per_s <= 0 or burst < 1:
            raise ValueError("rate_per_s must be above 0 and burst at least 1")
        self._rate_per_ms = rate_per_s / 1000
        self._burst = burst
        self._tokens = float(burst)
        self._updated_ms = now_ms

    @property
    def burst(self) -> int:
        """The largest amount that can be taken at once."""
        return self._burst

    def take(self, amount: int, *, now_ms: float) -> float:
        """Take ``amount`` (≤ burst) now and answer 0, or take nothing and answer how many ms to wait first."""
        if not 0 < amount <= self._burst:
            raise ValueError(f"amount must be between 1 and {self._burst}")
        if now_ms > self._updated_ms:
            self._tokens = min(self._burst, self._tokens + (now_ms - self._updated_ms) * self._rate_per_ms)
            self._updated_ms = now_ms
        missing = amount - self._tokens
        if missing > 1e-9:
            return missing / self._rate_per_ms
        self._tokens -= amount
        return 0.0
