"""The headers of an event, exactly as the golden vectors have them: same names, same order, same text.

Sources: CloudEvents 1.0 with the Kafka protocol binding (binary content mode), W3C Trace Context.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final

from broker_bridge import headers as h
from broker_bridge.errors import HeadersInvalidError
from broker_bridge.message import Header

_SPECVERSION: Final = (h.CE_SPECVERSION, b"1.0")
_CONTENT_TYPE: Final = (h.CONTENT_TYPE, b"application/avro")
_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_BREAKS: Final = re.compile("[\r\n\0]")
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_CONTRACT_NAMES: Final = frozenset(
    {
        h.CE_SPECVERSION,
        h.CE_ID,
        h.CE_SOURCE,
        h.CE_TYPE,
        h.CE_TIME,
        h.CE_SUBJECT,
        h.CONTENT_TYPE,
        h.TRACEPARENT,
        h.TRACESTATE,
        h.CORRELATION_ID,
        h.CAUSATION_ID,
        h.IDEMPOTENCY_KEY,
        h.DEADLINE,
        h.VALUE_SCHEMA_ID,
    }
)


def event_headers(
    *,
    event_id: str,
    source: str,
    event_type: str,
    time: str,
    subject: str | None = None,
    traceparent: str | None = None,
    tracestate: str | None = None,
    correlation_id: str | None = None,
    causation_id: str | None = None,
    idempotency_key: str | None = None,
    deadline_ms: int | None = None,
    extra: Iterable[Header] = (),
) -> list[Header]:
    """The headers of one event; ``time`` is RFC 3339 with milliseconds and Z, ``extra`` comes last, as given.

    Raises ``HeadersInvalidError`` for an empty source or type, a traceparent that is none, a value with a line break in
    it, and an extra header whose name is of the wire contract or reserved for the bridge. An empty id is written as it
    is (the golden vectors have one); ``Producer`` refuses it.
    """
    found: list[Header] = [
        _SPECVERSION,
        (h.CE_ID, _bytes_of(h.CE_ID, event_id)),
        _constant(h.CE_SOURCE, source),
        _constant(h.CE_TYPE, event_type),
        _recent(h.CE_TIME, time),
    ]
    if subject is not None:
        found.append((h.CE_SUBJECT, _bytes_of(h.CE_SUBJECT, subject)))
    found.append(_CONTENT_TYPE)
    if traceparent is not None:
        if not is_traceparent(traceparent):
            raise HeadersInvalidError(f"{traceparent!r} is not a W3C traceparent", where=h.TRACEPARENT)
        found.append((h.TRACEPARENT, traceparent.encode()))
    if tracestate is not None:
        found.append(_required(h.TRACESTATE, tracestate))
    if correlation_id is not None:
        found.append(_required(h.CORRELATION_ID, correlation_id))
    if causation_id is not None:
        found.append(_required(h.CAUSATION_ID, causation_id))
    if idempotency_key is not None:
        found.append(_required(h.IDEMPOTENCY_KEY, idempotency_key))
    if deadline_ms is not None:
        found.append((h.DEADLINE, b"%d" % deadline_ms))
    if extra:
        found.extend(map(_allowed, extra))
    return found


def is_traceparent(text: str) -> bool:
    """Whether the text has the form of a W3C traceparent with ids that are not all zeros."""
    return _TRACEPARENT.fullmatch(text) is not None


class _RandomBytes:
    """The kernel's random bytes, asked for 64 at a time: an event needs two pieces, and each question costs 1 µs.

    Threads may share it, for a piece is popped once. A forked child forgets them, or it would make its parent's ids.
    """

    def __init__(self) -> None:
        self._pieces: defaultdict[int, deque[bytes]] = defaultdict(deque)
        os.register_at_fork(after_in_child=self._pieces.clear)

    def __call__(self, size: int) -> bytes:
        pieces = self._pieces[size]
        try:
            return pieces.popleft()
        except IndexError:
            page = os.urandom(64 * size)
            pieces.extend(page[at : at + size] for at in range(size, 64 * size, size))
            return page[:size]


_random_bytes: Final = _RandomBytes()


def new_event_id(random_bytes: Callable[[int], bytes] = _random_bytes) -> str:
    """A new random id, in the form of a UUID of version 4."""
    text = random_bytes(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:]}"


def new_traceparent(random_bytes: Callable[[int], bytes] = _random_bytes) -> str:
    """A new sampled trace: version 00, random ids."""
    ids = random_bytes(24).hex()
    return f"00-{ids[:32]}-{ids[32:]}-01"


def active_traceparent() -> str | None:
    """The span that is active in this task, where OpenTelemetry is installed and one is; else None."""
    trace = _opentelemetry()
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


@lru_cache(maxsize=1)
def _opentelemetry() -> Any | None:
    """The API is optional: the bridge only reads from it."""
    if importlib.util.find_spec("opentelemetry") is None:
        return None
    return importlib.import_module("opentelemetry.trace")


def _required(name: str, text: str) -> Header:
    if not text:
        raise HeadersInvalidError("must not be empty", where=name)
    return name, _bytes_of(name, text)


_constant = lru_cache(maxsize=1_024)(_required)
"""Sources and types are few."""
_recent = lru_cache(maxsize=64)(_required)
"""Many events have the time of the same millisecond."""


def _bytes_of(name: str, text: str) -> bytes:
    if not text.isprintable() and _BREAKS.search(text):  # a line break is not printable: most texts skip the search
        raise HeadersInvalidError(f"{text!r} has a line break or NUL in it", where=name)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise HeadersInvalidError(f"{text!r} is not Unicode text", where=name) from error


def _allowed(header: Header) -> Header:
    name, value = header
    if not name or name.startswith(h.BRIDGE_PREFIX):
        raise HeadersInvalidError(f"names under {h.BRIDGE_PREFIX} are reserved for the bridge", where=name or "headers")
    if name in _CONTRACT_NAMES:
        raise HeadersInvalidError("is part of the wire contract; set it by its own parameter", where=name)
    _bytes_of("header name", name)
    if value is not None and (b"\r" in value or b"\n" in value):
        raise HeadersInvalidError(f"{value!r} has a line break in it", where=name)
    return name, value
