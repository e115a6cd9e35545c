"""RFC 3339 in UTC with milliseconds."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.core.timestamps import rfc3339


@pytest.mark.parametrize(
    ("time_ms", "expected"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1, "1970-01-01T00:00:00.001Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (1_795_507_200_000, "2026-11-24T08:00:00.000Z"),
        (1_709_210_096_099, "2024-02-29T12:34:56.099Z"),
    ],
)
def test_examples(time_ms: int, expected: str) -> None:
    assert rfc3339(time_ms) == expected


@given(st.integers(-(10**13), 10**14))
def test_reads_back_to_the_same_millisecond(time_ms: int) -> None:
    moment = datetime.fromisoformat(rfc3339(time_ms))
    assert (moment - datetime.fromisoformat("1970-01-01T00:00:00Z")) == timedelta(milliseconds=time_ms)
