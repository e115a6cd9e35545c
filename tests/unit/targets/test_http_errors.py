"""Reading what a failing target says of itself: problem details and Retry-After, however hostile."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker_bridge.core.fingerprint import fingerprint
from broker_bridge.worker.targets.http_answer import error_of, problem_of, retry_after_ms

NOW_MS = 1_795_507_200_000
HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"code": "card_declined", "detail": "no cover"}', ("card_declined", "HTTP 422: no cover")),
        (b'{"code": "card_declined", "title": "Declined"}', ("card_declined", "HTTP 422: Declined")),
        (b'{"code": "c", "title": "Declined", "detail": "no cover"}', ("c", "HTTP 422: no cover")),
        (b'{"code": "", "detail": ""}', ("http_422", "HTTP 422")),
        (b'{"code": 7, "detail": {"a": 1}}', ("http_422", "HTTP 422")),
        (b'{"code": null, "detail": null, "title": []}', ("http_422", "HTTP 422")),
        (b"{}", ("http_422", "HTTP 422")),
        (b"[]", ("http_422", "HTTP 422")),
        (b"null", ("http_422", "HTTP 422")),
        (b'"text"', ("http_422", "HTTP 422")),
        (b"", ("http_422", "HTTP 422")),
        (b"<html>", ("http_422", "HTTP 422")),
        (b"\xff\xfe\xfa", ("http_422", "HTTP 422")),
        (b"[" * 60_000, ("http_422", "HTTP 422")),
        (b'{"code": ' + b"1" * 10_000 + b"}", ("http_422", "HTTP 422")),
        (b'{"code": "c", "detail": "' + b"x" * 70_000 + b'"}', ("http_422", "HTTP 422")),
    ],
)
def test_problem_details(body: bytes, expected: tuple[str, str]) -> None:
    assert problem_of(422, body) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["code", "detail", "title"]), inner),
    max_leaves=8,
)


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()), st.integers(300, 599))
@settings(max_examples=300, deadline=None)
def test_no_body_breaks_the_reading_or_what_is_made_of_it(body: bytes, status: int) -> None:
    error = error_of(status, None, body, NOW_MS)
    assert error.target_code
    assert len(fingerprint(error.code, error.target_code)) == 12


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("0", 0),
        ("7", 7_000),
        ("007", 7_000),
        ("3600", HOUR_MS),
        ("3601", HOUR_MS),
        ("9" * 5_000, HOUR_MS),
        ("10000000001", HOUR_MS),
        ("0" * 5_000 + "7", 7_000),
        ("Tue, 24 Nov 2026 08:00:05 GMT", 5_000),
        ("Tuesday, 24-Nov-26 08:00:05 GMT", 5_000),
        ("Tue Nov 24 08:00:05 2026", 5_000),
        ("Tue, 24 Nov 2026 08:00:05 -0000", 5_000),
        ("Tue, 24 Nov 2026 07:59:00 GMT", 0),
        ("Tue, 24 Nov 2099 08:00:00 GMT", HOUR_MS),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("²", None),
        ("٣", None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Tue, 24 Nov 2026 08:00:05 +99999999999999999999", None),
        ("Tue, 99 Nov 2026 08:00:05 GMT", None),
    ],
)
def test_retry_after(value: str | None, expected: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Auckland")  # HTTP dates are in UTC wherever the worker runs
    time.tzset()
    try:
        assert retry_after_ms(value, NOW_MS) == expected
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.text(max_size=40) | st.text("0123456789:, +-GMTJan", max_size=40))
@settings(max_examples=500, deadline=None)
def test_any_retry_after_is_a_wait_within_bounds_or_none(value: str) -> None:
    found = retry_after_ms(value, NOW_MS)
    assert found is None or 0 <= found <= HOUR_MS


@given(st.integers(-HOUR_MS // 1_000, 2 * HOUR_MS // 1_000))
def test_dates_are_read_to_the_second(ahead_s: int) -> None:
    moment = datetime.fromtimestamp(NOW_MS / 1_000 + ahead_s, tz=UTC)
    expected = min(max(ahead_s * 1_000, 0), HOUR_MS)
    assert retry_after_ms(format_datetime(moment, usegmt=True), NOW_MS) == expected
