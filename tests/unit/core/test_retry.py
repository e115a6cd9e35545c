"""Backoff: exact without chance, bounded with it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.core.retry import backoff_ms


def test_doubles_up_to_the_longest() -> None:
    delays = [backoff_ms(n, base_ms=100, max_ms=1_000, jitter=0, chance=0.7) for n in range(1, 7)]
    assert delays == [100, 200, 400, 800, 1_000, 1_000]


def test_jitter_is_the_share_that_chance_may_take_away() -> None:
    assert [backoff_ms(1, base_ms=100, max_ms=1_000, jitter=0.5, chance=c) for c in (0, 0.5, 1)] == [100, 75, 50]
    assert backoff_ms(1, base_ms=100, max_ms=1_000, jitter=1, chance=1) == 1, "never no wait at all"


def test_a_count_of_nothing_counts_as_the_first() -> None:
    assert backoff_ms(0, base_ms=100, max_ms=1_000, jitter=0, chance=0) == 100


@given(
    failures=st.integers(0, 10**6),
    base_ms=st.integers(0, 10**6),
    max_ms=st.integers(0, 10**6),
    jitter=st.floats(0, 1),
    chance=st.floats(0, 1),
)
def test_stays_within_its_bounds(failures: int, base_ms: int, max_ms: int, jitter: float, chance: float) -> None:
    found = backoff_ms(failures, base_ms=base_ms, max_ms=max_ms, jitter=jitter, chance=chance)
    longest = backoff_ms(failures, base_ms=base_ms, max_ms=max_ms, jitter=0, chance=0)
    assert 1 <= found <= longest <= max(1, max_ms)
    assert found >= longest * (1 - jitter) - 1
