"""Event headers: as the golden vectors have them, and nothing that could break out of a header."""

from __future__ import annotations

import json
import os
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_bridge import cloudevents
from broker_bridge.cloudevents import active_traceparent, event_headers, is_traceparent, new_event_id, new_traceparent
from broker_bridge.errors import HeadersInvalidError

GOLDEN = sorted((Path(__file__).parents[2] / "schemas" / "golden").glob("*.json"))
BASE: dict[str, Any] = {"event_id": "e-1", "source": "/s", "event_type": "t.T", "time": "2026-01-01T00:00:00.000Z"}
PARAMETERS = {
    "ce_id": "event_id",
    "ce_source": "source",
    "ce_type": "event_type",
    "ce_time": "time",
    "ce_subject": "subject",
    "traceparent": "traceparent",
    "tracestate": "tracestate",
    "correlation-id": "correlation_id",
    "causation-id": "causation_id",
    "idempotency-key": "idempotency_key",
}


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_golden_vectors(file: Path) -> None:
    expected = [(name, value.encode()) for name, value in json.loads(file.read_text())["headers"]]
    given_values = {PARAMETERS[name]: value.decode() for name, value in expected if name in PARAMETERS}
    assert event_headers(**given_values) == expected


def test_every_name_in_its_order() -> None:
    headers = event_headers(
        **BASE,
        subject="s",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        tracestate="a=b",
        correlation_id="c",
        causation_id="d",
        idempotency_key="i",
        deadline_ms=1_790_000_000_000,
        extra=[("x", b"1"), ("x", None)],
    )
    assert [name for name, _ in headers] == [
        "ce_specversion",
        "ce_id",
        "ce_source",
        "ce_type",
        "ce_time",
        "ce_subject",
        "content-type",
        "traceparent",
        "tracestate",
        "correlation-id",
        "causation-id",
        "idempotency-key",
        "deadline",
        "x",
        "x",
    ]
    assert headers[-3:] == [("deadline", b"1790000000000"), ("x", b"1"), ("x", None)]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"event_id": "a\r\nb"}, "ce_id"),
        ({"event_id": "\ud800"}, "ce_id"),
        ({"source": ""}, "ce_source"),
        ({"event_type": "a\nb"}, "ce_type"),
        ({"subject": "a\rb"}, "ce_subject"),
        ({"correlation_id": "a\0b"}, "correlation-id"),
        ({"idempotency_key": ""}, "idempotency-key"),
        ({"traceparent": "00-00000000000000000000000000000000-b7ad6b7169203331-01"}, "traceparent"),
        ({"traceparent": "nonsense"}, "traceparent"),
        ({"extra": [("bridge-attempt", b"1")]}, "bridge-attempt"),
        ({"extra": [("ce_id", b"1")]}, "ce_id"),
        ({"extra": [("", b"1")]}, "headers"),
        ({"extra": [("a\nb", b"1")]}, "header name"),
        ({"extra": [("a", b"x\r\ny")]}, "a"),
    ],
)
def test_refused(change: dict[str, Any], where: str) -> None:
    with pytest.raises(HeadersInvalidError) as caught:
        event_headers(**(BASE | change))
    assert caught.value.where == where


@given(st.text(min_size=1))
def test_a_text_travels_unchanged_or_is_refused(text: str) -> None:
    try:
        headers = dict(event_headers(**(BASE | {"event_id": text})))
    except HeadersInvalidError:
        assert set(text) & set("\r\n\0") or any("\ud800" <= char <= "\udfff" for char in text)
    else:
        assert headers["ce_id"] == text.encode()
        assert not set(text) & set("\r\n\0")


def test_new_traces_are_valid_and_differ() -> None:
    traces = {new_traceparent() for _ in range(50)}
    assert len(traces) == 50
    assert all(is_traceparent(trace) for trace in traces)
    assert new_traceparent(lambda count: bytes([0xAB]) * count) == f"00-{'ab' * 16}-{'ab' * 8}-01"


def test_no_trace_without_opentelemetry() -> None:
    assert active_traceparent() is None


def test_the_active_span_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the part of OpenTelemetry's API that is read, which is not a dependency."""
    context = types.SimpleNamespace(is_valid=True, trace_id=0xABC, span_id=0xDEF, trace_flags=1)
    trace = types.ModuleType("opentelemetry.trace")
    trace.get_current_span = lambda: types.SimpleNamespace(get_span_context=lambda: context)  # type: ignore[attr-defined]
    package = types.ModuleType("opentelemetry")
    package.__spec__ = types.SimpleNamespace(name="opentelemetry")  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "opentelemetry", package)
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", trace)
    cloudevents._opentelemetry.cache_clear()
    try:
        assert active_traceparent() == f"00-{'abc'.rjust(32, '0')}-{'def'.rjust(16, '0')}-01"
        context.is_valid = False
        assert active_traceparent() is None
    finally:
        cloudevents._opentelemetry.cache_clear()


def test_new_event_ids_are_random_uuids() -> None:
    ids = {new_event_id() for _ in range(500)}
    assert len(ids) == 500
    assert all(str(UUID(one)) == one and UUID(one).version == 4 and UUID(one).variant == RFC_4122 for one in ids)


def test_threads_never_share_an_id() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: [new_event_id() for _ in range(500)], range(16)))
    assert len({one for some in made for one in some}) == 16 * 500


def test_a_forked_child_makes_ids_of_its_own() -> None:
    new_event_id(), new_traceparent()  # there is something to inherit
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, f"{new_event_id()} {new_traceparent()}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, 200).decode().split()
    os.close(reader)
    os.close(writer)
    assert {new_event_id(), new_traceparent()}.isdisjoint(theirs)
