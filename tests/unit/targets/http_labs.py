"""Real servers on free loopback ports, and HTTP targets that talk to them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from broker_bridge.clock import SystemClock
from broker_bridge.config.route import HttpTarget
from broker_bridge.consumer import Context
from broker_bridge.errors import BridgeError, DeliveryError
from broker_bridge.message import Message, Position
from broker_bridge.worker.targets.http import HttpEndpointTarget

CONTEXT = Context(attempt=2, crashes=1, token=9, group="payments", deadline_ms=0)
MESSAGE: Message[Any] = Message(
    value={"id": "o-1", "placed_at": 5, "note": "ü"},
    key=b"k",
    headers=(),
    origin=Position("orders.placed", 3, 41),
    timestamp_ms=0,
    idempotency_key="urn:orders%23eu#o-1",
    event_id="o-1",
    event_source="urn:orders#eu",
    event_type="shop.OrderPlaced",
    event_time="2026-11-24T08:00:00.000Z",
    event_subject="customer-7",
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Seen:
    """What reached the server."""

    requests: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


def config(url: str, **options: Any) -> HttpTarget:
    """The target's section of a route."""
    return HttpTarget.model_validate({"kind": "http", "url": url, **options})


@asynccontextmanager
async def target_at(url: str, *, concurrency: int = 4, **options: Any) -> AsyncIterator[HttpEndpointTarget]:
    """A started target."""
    target = HttpEndpointTarget(config(url, **options), concurrency=concurrency, clock=SystemClock())
    await target.start()
    try:
        yield target
    finally:
        await target.stop()


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[tuple[str, Seen]]:
    """A real server on a free port that answers every request so."""
    seen = Seen()

    async def handle(request: web.Request) -> web.StreamResponse:
        seen.requests.append(request)
        seen.bodies.append(await request.read())
        return await answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/orders", seen
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_server(say: bytes, *, reset: bool) -> AsyncIterator[str]:
    """A server that reads the request, says these bytes whatever was asked, and hangs up, by a reset if so wished."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(say)
        await writer.drain()
        if reset:
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        writer.close()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"


def answering(status: int = 200, body: bytes = b"", **headers: str) -> Answer:
    """The same answer to everybody."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


async def delivered(answer: Answer, **options: Any) -> object:
    """What one delivery comes to."""
    async with server(answer) as (url, _), target_at(url, **options) as target:
        return await target.deliver(MESSAGE, CONTEXT)


async def failure(answer: Answer, **options: Any) -> DeliveryError:
    """How one delivery fails."""
    with pytest.raises(BridgeError) as caught:
        await delivered(answer, **options)
    assert isinstance(caught.value, DeliveryError)
    return caught.value
