"""The tally against a plain list of what was counted when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.core.attempt_tally import AttemptTally

STEPS = st.lists(st.tuples(st.integers(0, 4_000), st.integers(0, 5), st.integers(0, 5)), max_size=60)


@given(STEPS, st.integers(1, 12_000))
def test_the_sums_are_those_of_every_second_that_the_window_touches(
    steps: list[tuple[int, int, int]], window_ms: int
) -> None:
    tally, now_ms, counted = AttemptTally(), 1_700_000_000_000, []
    for wait_ms, first, again in steps:
        now_ms += wait_ms
        counted.append((now_ms, first, again))
        found = tally.add(first, again, now_ms=now_ms, window_ms=window_ms)
        begins_ms = (now_ms - window_ms) // 1_000 * 1_000
        within = [entry for entry in counted if entry[0] >= begins_ms]
        assert found == (sum(entry[1] for entry in within), sum(entry[2] for entry in within))


def test_seconds_to_come_are_dropped_where_the_clock_went_back() -> None:
    tally = AttemptTally()
    assert tally.add(5, 5, now_ms=100_000, window_ms=10_000) == (5, 5)
    assert tally.add(1, 0, now_ms=50_000, window_ms=10_000) == (1, 0)
    assert tally.add(0, 0, now_ms=101_000, window_ms=60_000) == (1, 0)
