"""How long to wait before trying again in place: exponential backoff with jitter."""

from __future__ import annotations


def backoff_ms(failures: int, *, base_ms: int, max_ms: int, jitter: float, chance: float) -> int:
    """Delay after the ``failures``-th failure in a row (from 1).

    ``base_ms`` doubles with every failure up to ``max_ms``; ``jitter`` is the share of the delay that is random (0
    none, 1 all of it),
    ``chance`` a random number from 0 to 1 that the caller draws.
    """
    exponent = min(max(failures, 1) - 1, 32)
    full = min(max_ms, base_ms * (1 << exponent))
    return max(1, round(full * (1 - jitter * chance)))
