"""The headers of a published result, from those of the message it answers."""

from __future__ import annotations

import pytest

from broker_bridge.cloudevents import event_headers
from broker_bridge.errors import HeadersInvalidError
from broker_bridge.message import Position
from broker_bridge.worker.result_event import ResultEvent

NOW_MS = 1_790_000_000_123
ORIGIN = Position("orders", 3, 7)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def headers(named: dict[str, bytes | None]) -> list[tuple[str, bytes | None]]:
    return ResultEvent(source="/pay", event_type="shop.Paid").headers(named, ORIGIN, NOW_MS)


@pytest.mark.parametrize("subject", ["customer 7", "Käufer 7", ""])
@pytest.mark.parametrize("event_id", ["o-1", "bestellung-ü"])
@pytest.mark.parametrize("correlation", [None, "c-1"])
def test_they_are_those_of_an_event_made_of_texts(subject: str, event_id: str, correlation: str | None) -> None:
    named: dict[str, bytes | None] = {
        "ce_id": event_id.encode(),
        "ce_subject": subject.encode(),
        "traceparent": TRACE.encode(),
    }
    if correlation is not None:
        named["correlation-id"] = correlation.encode()
    assert headers(named) == event_headers(
        event_id=f"{event_id}.out",
        source="/pay",
        event_type="shop.Paid",
        time="2026-09-21T14:13:20.123Z",
        subject=subject,
        traceparent=TRACE,
        correlation_id=correlation or event_id,
        causation_id=event_id,
    )


def test_a_message_without_an_id_is_named_by_its_place() -> None:
    assert headers({}) == event_headers(
        event_id="orders/3/7.out", source="/pay", event_type="shop.Paid", time="2026-09-21T14:13:20.123Z"
    )


@pytest.mark.parametrize("bad", [b"\xff\xfe", None])
def test_what_is_no_text_is_left_out(bad: bytes | None) -> None:
    assert headers({"ce_id": bad, "ce_subject": bad, "correlation-id": bad}) == headers({})


def test_a_trace_that_is_none_ends_here() -> None:
    assert headers({"traceparent": b"00-zero-zero-01"}) == headers({})


@pytest.mark.parametrize("name", ["ce_id", "ce_subject", "correlation-id"])
def test_line_breaks_are_refused_by_name(name: str) -> None:
    with pytest.raises(HeadersInvalidError, match="line break") as refused:
        headers({name: b"a\r\nb: c"})
    assert refused.value.where == name


def test_the_time_is_of_now_each_time() -> None:
    event = ResultEvent(source="/pay", event_type="shop.Paid")
    times = [dict(event.headers({}, ORIGIN, now_ms))["ce_time"] for now_ms in (1_000, 1_000, 2_500)]
    assert times == [b"1970-01-01T00:00:01.000Z", b"1970-01-01T00:00:01.000Z", b"1970-01-01T00:00:02.500Z"]


def test_the_header_of_the_schema_comes_last() -> None:
    mark = ("__value_schema_id", b"\x01" + bytes(16))
    made = ResultEvent(source="/pay", event_type="shop.Paid", schema=[mark]).headers({}, ORIGIN, NOW_MS)
    assert made == [*headers({}), mark]
