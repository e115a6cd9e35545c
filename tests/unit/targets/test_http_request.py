"""What an HTTP target sends, and whom it may call."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

import pytest
from http_labs import CONTEXT, MESSAGE, answering, config, server, target_at
from hypothesis import given, settings
from hypothesis import strategies as st

from broker_bridge.clock import SystemClock
from broker_bridge.errors import ConfigError
from broker_bridge.message import Message, Position
from broker_bridge.worker.targets.http import HttpEndpointTarget
from broker_bridge.worker.targets.http_request import request_headers


async def test_the_request_on_the_wire() -> None:
    async with server(answering(204)) as (url, seen), target_at(url, headers={"Authorization": "Bearer x"}) as target:
        assert await target.deliver(replace(MESSAGE, replay_id="rp-1"), CONTEXT) is None
    request = seen.requests[0]
    found = {name.lower(): value for name, value in request.headers.items()}
    assert (request.method, request.path) == ("POST", "/orders")
    assert json.loads(seen.bodies[0]) == MESSAGE.value
    for name, value in {
        "content-type": "application/json",
        "accept-encoding": "identity",
        "authorization": "Bearer x",
        "ce-specversion": "1.0",
        "ce-id": "o-1",
        "ce-source": "urn:orders#eu",
        "ce-type": "shop.OrderPlaced",
        "ce-time": "2026-11-24T08:00:00.000Z",
        "ce-subject": "customer-7",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "idempotency-key": "urn:orders%23eu#o-1",
        "bridge-attempt": "2",
        "bridge-crashes": "1",
        "bridge-token": "9",
        "bridge-origin": "orders.placed/3/41",
        "bridge-replay-id": "rp-1",
    }.items():
        assert found[name] == value, name


async def test_what_the_event_does_not_carry_is_not_sent_and_a_tombstone_is_null() -> None:
    bare: Message[Any] = Message(None, None, (), Position("t", 0, 1), 0, "kafka://t/0/1")
    async with server(answering(204)) as (url, seen), target_at(url) as target:
        await target.deliver(bare, CONTEXT)
    names = {name.lower() for name in seen.requests[0].headers}
    assert not {"ce-id", "ce-source", "ce-type", "ce-time", "ce-subject", "traceparent", "bridge-replay-id"} & names
    assert seen.bodies == [b"null"]


async def test_a_configured_content_type_takes_the_place_of_ours() -> None:
    own = {"Content-Type": "application/vnd.shop+json", "Bridge-Attempt": "99"}
    async with server(answering(204)) as (url, seen), target_at(url, headers=own) as target:
        await target.deliver(MESSAGE, CONTEXT)
    assert seen.requests[0].headers.getall("content-type") == ["application/vnd.shop+json"]
    assert seen.requests[0].headers.getall("bridge-attempt") == ["2"]


HOSTILE = [
    "a\r\nx-evil: 1",
    "a\nb",
    "a\rb",
    "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "nul\x00",
    "\x7f\x1b[31m",
    "größe €",
    "\u2028\u0085\u560a\u560d",
    "100 %",
    'say "hi"',
    "a\tb",
]


@pytest.mark.parametrize("text", HOSTILE)
async def test_no_attribute_can_add_a_header_or_a_request(text: str) -> None:
    hostile = replace(
        MESSAGE,
        event_id=text,
        event_source=text,
        event_type=text,
        event_time=text,
        event_subject=text,
        idempotency_key=text,
        traceparent=text,
        replay_id=text,
    )
    async with server(answering(204)) as (url, seen), target_at(url) as target:
        await target.deliver(MESSAGE, CONTEXT)
        await target.deliver(hostile, CONTEXT)
        await target.deliver(MESSAGE, CONTEXT)
    assert [request.path for request in seen.requests] == ["/orders"] * 3
    assert seen.bodies[1] == seen.bodies[0]
    plain, found = seen.requests[0].headers, seen.requests[1].headers
    assert sorted(name.lower() for name in found) == sorted([*map(str.lower, plain), "bridge-replay-id"])
    for name in ("ce-id", "ce-source", "ce-type", "ce-time", "ce-subject"):
        assert unquote(found[name]) == text


@given(st.text(st.characters(codec="utf-8"), max_size=20))
@settings(max_examples=200, deadline=None)
def test_attributes_are_encoded_as_cloudevents_says_and_read_back(text: str) -> None:
    found = request_headers(replace(MESSAGE, event_subject=text, idempotency_key=text), CONTEXT)
    assert unquote_to_bytes(found["ce-subject"]).decode() == text
    assert all("!" <= char <= "~" and char != '"' for char in found["ce-subject"])
    assert all(" " <= char <= "~" for char in found["idempotency-key"])
    if text.isascii() and text.isprintable():
        assert found["idempotency-key"] == text, "the key goes as it is wherever it can"


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "[fe80::1]",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "2852039166",
        "0xa9fea9fe",
        "169.254.43518",
        "0251.0376.0251.0376",
    ],
)
async def test_link_local_addresses_are_never_called_however_they_are_written(host: str) -> None:
    target = HttpEndpointTarget(config(f"http://{host}/latest"), concurrency=1, clock=SystemClock())
    with pytest.raises(ConfigError, match="link-local"):
        await target.start()
    await target.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "10.0.0.1", "payments", "payments.internal", "2130706433"])
async def test_other_hosts_may_be_called(host: str) -> None:
    async with target_at(f"http://{host}:1/"):
        pass


async def test_only_allowed_hosts_where_any_are_named() -> None:
    async with target_at("http://payments:1/", allow_hosts=["payments"]):
        pass
    target = HttpEndpointTarget(config("http://other:1/", allow_hosts=["payments"]), concurrency=1, clock=SystemClock())
    with pytest.raises(ConfigError, match="allow_hosts"):
        await target.start()
