"""What the answer to a delivery means for its message."""

from __future__ import annotations

import json
from datetime import UTC
from email.utils import parsedate_to_datetime

from broker_bridge.errors import (
    DeliveryError,
    OutputInvalidError,
    RejectedError,
    RetryLaterError,
    TargetTimeoutError,
    TargetUnavailableError,
)
from broker_bridge.worker.targets.http_connection import PROBLEM_BYTES

_LATER = frozenset({409, 425, 429})
_NOT_THIS_MESSAGE = frozenset({401, 403, 407})
"""Refusals of the caller rather than of the message: every message would get them, so none may die of them."""
_LONGEST_WAIT_MS = 3_600_000


def value_of(status: int, body: bytes) -> object:
    """The answer of a success: JSON, or None. Raises ``OutputInvalidError``."""
    if status == 204 or not body:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise OutputInvalidError(
            f"the answer is not JSON: {error}", remedy="answer JSON, or 204 without a body"
        ) from error


def error_of(status: int, retry_after: str | None, body: bytes, now_ms: int) -> DeliveryError:
    """What an answer outside 2xx means.

    ======================== =========================================================================
    409, 425, 429            later; no attempt is spent
    503 with Retry-After     later; no attempt is spent
    401, 403, 407, 408, 5xx  the target is not available to anybody; may be an outage
    3xx, other 4xx           final: this message is refused
    ======================== =========================================================================
    """
    return failure_of(status, retry_after, _json(body), now_ms)


def failure_of(status: int, retry_after: str | None, problem: object, now_ms: int) -> DeliveryError:
    """The same, the body read already."""
    code, detail = _told(status, problem)
    later_ms = retry_after_ms(retry_after, now_ms)
    if status in _LATER or (status == 503 and later_ms is not None):
        return RetryLaterError(detail, target_code=code, retry_after_ms=later_ms)
    if status == 408:
        return TargetTimeoutError(detail, target_code=code)
    if status >= 500 or status in _NOT_THIS_MESSAGE:
        return TargetUnavailableError(detail, target_code=code, retry_after_ms=later_ms)
    return RejectedError(detail, target_code=code)


def problem_of(status: int, body: bytes) -> tuple[str, str]:
    """The ``code`` and ``detail`` of problem details (RFC 9457), ``http_<status>`` where the body is none."""
    return _told(status, _json(body))


def _json(body: bytes) -> object:
    try:
        return json.loads(body[:PROBLEM_BYTES])
    except (ValueError, RecursionError):
        return None


def _told(status: int, problem: object) -> tuple[str, str]:
    code, detail = f"http_{status}", f"HTTP {status}"
    if not isinstance(problem, dict):
        return code, detail
    own, title = problem.get("code"), problem.get("detail") or problem.get("title")
    return (own if isinstance(own, str) and own else code), f"{detail}: {title}" if isinstance(title, str) else detail


def retry_after_ms(value: str | None, now_ms: int) -> int | None:
    """``Retry-After`` (RFC 9110: seconds or a date) in milliseconds from now, at most an hour; None where it says
    nothing."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        wait = int(value[-9:]) * 1000 if len(value.lstrip("0")) < 10 else _LONGEST_WAIT_MS
    else:
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, TypeError, OverflowError):
            return None
        # HTTP knows no other time zone; the asctime form does not name it
        wait = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000) - now_ms
    return min(max(wait, 0), _LONGEST_WAIT_MS)
