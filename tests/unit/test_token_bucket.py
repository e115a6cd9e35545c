"""The rate limit, in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.core.token_bucket import TokenBucket


def test_full_at_first_then_as_fast_as_the_rate() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=5, now_ms=0)
    assert bucket.take(5, now_ms=0) == 0
    assert bucket.take(1, now_ms=0) == pytest.approx(100)
    assert bucket.take(1, now_ms=99) > 0
    assert bucket.take(1, now_ms=100) == 0
    assert bucket.take(5, now_ms=10_000) == 0, "an idle bucket is full, not fuller"
    assert bucket.take(1, now_ms=10_000) > 0


def test_refuses_what_could_never_be_taken() -> None:
    bucket = TokenBucket(rate_per_s=1, burst=2, now_ms=0)
    for amount in (0, 3):
        with pytest.raises(ValueError, match="amount"):
            bucket.take(amount, now_ms=0)
    with pytest.raises(ValueError, match="rate_per_s"):
        TokenBucket(rate_per_s=0, burst=1, now_ms=0)


@given(
    rate=st.floats(0.5, 1_000),
    burst=st.integers(1, 50),
    moves=st.lists(st.tuples(st.integers(1, 50), st.integers(-20, 2_000)), max_size=60),
)
def test_never_more_than_burst_plus_rate_times_time(rate: float, burst: int, moves: list[tuple[int, int]]) -> None:
    bucket, now, latest, taken = TokenBucket(rate_per_s=rate, burst=burst, now_ms=0), 0, 0, 0
    for amount, step in moves:
        now += step
        latest = max(latest, now)
        amount = min(amount, burst)
        wait_ms = bucket.take(amount, now_ms=now)
        if wait_ms == 0:
            taken += amount
        else:
            assert bucket.take(amount, now_ms=latest + wait_ms + 1e-6) == 0, "the wait it names is enough"
            taken += amount
            latest = now = int(latest + wait_ms + 1)
        assert taken <= burst + rate * latest / 1000 + 1e-6 * len(moves) + 1e-3
