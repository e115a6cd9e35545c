"""Durations, sizes and the lane names made of them: written and read back, nothing lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.core.duration import LONGEST_MS, format_duration, parse_duration_ms
from broker_bridge.core.lanes import LaneNames, topic_name_problem
from broker_bridge.core.size import format_size, parse_size_bytes


@given(st.integers(min_value=0, max_value=LONGEST_MS))
def test_every_duration_is_read_back_as_it_was(duration_ms: int) -> None:
    assert parse_duration_ms(format_duration(duration_ms)) == duration_ms


@given(st.integers(min_value=0, max_value=1 << 45))
def test_every_size_is_read_back_as_it_was(size_bytes: int) -> None:
    assert parse_size_bytes(format_size(size_bytes)) == size_bytes


@pytest.mark.parametrize(
    ("written", "duration_ms"),
    [("250ms", 250), ("2s", 2_000), ("1.5s", 1_500), (" 5 m ", 300_000), ("12h", 43_200_000), ("7d", 604_800_000)],
)
def test_durations_as_people_write_them(written: str, duration_ms: int) -> None:
    assert parse_duration_ms(written) == duration_ms
    assert parse_duration_ms(duration_ms) == duration_ms


@pytest.mark.parametrize("written", ["", "2", "2 sec", "-2s", "2S", "1h30m", "1e3ms", "٢s", "0.0001ms", "101000d"])
def test_what_is_no_duration_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_duration_ms(written)


@pytest.mark.parametrize("written", [-1, True, 1.5, None, LONGEST_MS + 1])
def test_numbers_that_are_no_duration_are_refused(written: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_duration_ms(written)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("duration_ms", "written"),
    [(0, "0ms"), (1, "1ms"), (1_500, "1500ms"), (2_000, "2s"), (90_000, "90s"), (3_600_000, "1h"), (86_400_000, "1d")],
)
def test_a_duration_is_written_in_the_largest_unit_that_fits(duration_ms: int, written: str) -> None:
    assert format_duration(duration_ms) == written


def test_lanes_are_named_by_group_topic_and_delay() -> None:
    lanes = LaneNames("payments", "orders.placed")
    assert lanes.retry(2_000) == "payments.orders.placed.retry-2s"
    assert lanes.redrive == "payments.orders.placed.redrive"
    assert lanes.dead_letter == "payments.orders.placed.dlq"
    assert lanes.read([2_000, 60_000]) == [
        "payments.orders.placed.retry-2s",
        "payments.orders.placed.retry-1m",
        "payments.orders.placed.redrive",
    ]
    assert lanes.all([]) == ["payments.orders.placed.redrive", "payments.orders.placed.dlq"]


@given(st.lists(st.integers(min_value=1, max_value=LONGEST_MS), unique=True, max_size=8))
def test_different_delays_never_share_a_lane(delays_ms: list[int]) -> None:
    names = LaneNames("g", "t").all(delays_ms)
    assert len(set(names)) == len(delays_ms) + 2
    assert all(topic_name_problem(name) is None for name in names)


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "ä", "a\n", "x" * 250])
def test_names_that_kafka_refuses_are_told(name: str) -> None:
    assert topic_name_problem(name) is not None


def test_names_that_kafka_takes_are_fine() -> None:
    assert all(topic_name_problem(name) is None for name in ("a", "A.b_c-9", "x" * 249, "..."))
