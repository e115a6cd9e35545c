"""A peer that says exactly the bytes it is told to, request by request."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from broker_bridge.worker.targets.http_client import HttpClient
from broker_bridge.worker.targets.http_connection import HttpAnswer

PATIENCE_S = 30
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@dataclass
class Peer:
    """What reached it: the requests of each connection, in order."""

    connections: list[list[bytes]] = field(default_factory=list)
    sent: int = 0
    open_at_once: int = 0
    most_at_once: int = 0

    @property
    def requests(self) -> list[int]:
        """How many requests each connection carried."""
        return [len(requests) for requests in self.connections]


Part = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Peer], Awaitable[bool]]
"""Answers one request; false ends the connection."""


def saying(*answers: bytes, close: bool = False) -> Part:
    """The answers in turn, whatever connection they are for; the last one again and again."""
    left = list(answers)

    async def part(_: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer) -> bool:
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        return not close

    return part


def without_end(head: bytes, again: bytes) -> Part:
    """A head, then the same bytes for as long as somebody takes them."""

    async def part(_: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer) -> bool:
        writer.write(head)
        while True:
            writer.write(again * (8_192 // len(again) + 1))
            await writer.drain()
            peer.sent += 8_192

    return part


@asynccontextmanager
async def peer_that(part: Part, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[str, Peer]]:
    """The URL of a peer on a free port, and what reaches it."""
    peer = Peer()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine: list[bytes] = []
        peer.connections.append(mine)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                mine.append(head + (await reader.readexactly(length) if length < 1 << 20 else b""))
                peer.open_at_once += 1
                peer.most_at_once = max(peer.most_at_once, peer.open_at_once)
                try:
                    if not await part(reader, writer, peer):
                        return
                finally:
                    peer.open_at_once -= 1
        except (asyncio.IncompleteReadError, OSError):
            return
        finally:
            writer.close()

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        tasks.add(task)

    server = await asyncio.start_server(begin, "127.0.0.1", 0, ssl=tls)
    try:
        scheme = "https" if tls else "http"
        host = "localhost" if tls else "127.0.0.1"
        yield f"{scheme}://{host}:{server.sockets[0].getsockname()[1]}/orders", peer
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await server.wait_closed()


@asynccontextmanager
async def client_of(
    url: str, *, connections: int = 4, timeout_ms: int = PATIENCE_S * 1_000, **headers: str
) -> AsyncIterator[HttpClient]:
    """A started client."""
    client = HttpClient(url, headers=headers, connections=connections, timeout_ms=timeout_ms)
    client.start()
    try:
        yield client
    finally:
        await client.stop()


async def post(client: HttpClient, body: bytes = b"{}", *, limit: int = 1 << 20) -> HttpAnswer:
    """One request."""
    return await client.post("content-type: application/json\r\n", body, limit=limit)
