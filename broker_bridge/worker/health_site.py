"""Serving health pages: one address, a few paths to GET, every failure as a problem document.

Written on asyncio's streams, since a worker needs nothing else of an HTTP server: to import aiohttp's costs 130 ms of
CPU at each start. Nobody sends a body here, so a connection that announces one is answered and closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, NamedTuple

from broker_bridge.config.types import split_address
from broker_bridge.errors import BridgeError, ConfigError, NotFoundError, PortTakenError
from broker_bridge.observability import names
from broker_bridge.observability.logging import get_logger
from broker_bridge.observability.metrics import CONTENT_TYPE

STOP_WITHIN_S: Final = 1.0
LARGEST_HEAD_BYTES: Final = 16_384
IDLE_S: Final = 75.0
"""A connection without a whole request for so long is closed; scrapes come every minute at the latest."""
TAKE_WITHIN_S: Final = 10.0
"""How long who asked may take to read the answer."""
MOST_CONNECTIONS: Final = 128
"""Beyond it the one that has been idle longest is closed, so that nobody can keep probes out."""

_BODY = re.compile(rb"\r\n(content-length|transfer-encoding)[ \t]*:", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection[ \t]*:[^\r\n]*\bclose\b", re.IGNORECASE)

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HealthReport:
    """Whether all is well, and what each check says, in words without data."""

    ok: bool
    checks: Mapping[str, str] = field(default_factory=dict)


class Answer(NamedTuple):
    """What is sent for a request."""

    status: int
    body: bytes
    kind: str = "application/json"


class Asked(NamedTuple):
    """The head of a request, as far as it matters; ``keep`` is whether another may follow on the connection."""

    method: str
    path: str
    keep: bool


Page = Callable[[], Awaitable[Answer]]
"""What answers a GET of one path."""


class HealthSite:
    """Serves ``pages``, by path, on ``listen`` until stopped."""

    def __init__(self, listen: str, pages: Mapping[str, Page]) -> None:
        self._listen, self._pages = listen, pages
        self._given: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._at: tuple[str, int] = (split_address(listen)[0], 0)
        self._idle: dict[asyncio.Task[None], None] = {}
        self._busy: set[asyncio.Task[None]] = set()

    def adopt(self, listening: socket.socket) -> None:
        """Serve on this socket, which somebody else has bound, instead of binding one. Call it before ``start``."""
        self._given = listening

    async def start(self) -> None:
        """Listen. Raises ``PortTakenError``, or ``ConfigError`` where the address is not one of this machine."""
        host, port = split_address(self._listen)
        try:
            if self._given is not None:
                server = await asyncio.start_server(self._connected, sock=self._given, limit=LARGEST_HEAD_BYTES)
            else:
                server = await asyncio.start_server(self._connected, host, port, limit=LARGEST_HEAD_BYTES)
        except OSError as error:
            raise self._cannot_listen(error) from error
        self._server = server
        bound = server.sockets[0].getsockname()
        self._at = (host if self._given is None else bound[0], int(bound[1]))
        log.info(names.HEALTH_LISTENING, url=self.url)

    @property
    def port(self) -> int:
        """The port listened on, 0 before ``start``."""
        return self._at[1]

    @property
    def url(self) -> str:
        """Where to ask, without a path."""
        host, port = self._at
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    async def stop(self) -> None:
        """Stop listening, let running answers end within a second. Idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for waiting in list(self._idle):
            waiting.cancel()
        if self._busy:
            await asyncio.wait(self._busy, timeout=STOP_WITHIN_S)
        for left in [*self._busy, *self._idle]:
            left.cancel()
        await asyncio.gather(*self._busy, *self._idle, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side has enough of it."""
        task = asyncio.current_task()
        assert task is not None
        if len(self._idle) + len(self._busy) >= MOST_CONNECTIONS and self._idle:
            next(iter(self._idle)).cancel()
        try:
            while await self._one_request(task, reader, writer):
                pass
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # they went away, fell silent, do not read, or all ends
        finally:
            self._idle.pop(task, None)
            self._busy.discard(task)
            writer.close()

    async def _one_request(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Whether another may follow."""
        self._idle[task] = None
        try:
            asked = read_head(await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), IDLE_S))
        except asyncio.LimitOverrunError:
            asked = None
        del self._idle[task]
        self._busy.add(task)
        keep = asked is not None and asked.keep and self._server is not None
        answer = await self._answer(asked) if asked is not None else problem("usage", "not an HTTP request", 400)
        writer.write(as_bytes(answer, keep=keep, with_body=asked is None or asked.method != "HEAD"))
        await asyncio.wait_for(writer.drain(), TAKE_WITHIN_S)
        self._busy.discard(task)
        return keep

    async def _answer(self, asked: Asked) -> Answer:
        """A check that raises is a failure, and its words stay inside."""
        page = self._pages.get(asked.path)
        if page is None:
            return problem(NotFoundError.code, "Not Found", 404)
        if asked.method not in ("GET", "HEAD"):
            return problem("usage", "Method Not Allowed", 405)
        try:
            return await page()
        except Exception as error:
            log.error(names.HEALTH_CHECK_FAILED, exc_info=error)
            return problem(BridgeError.code, "health check failed", 500)

    def _cannot_listen(self, error: OSError) -> BridgeError:
        if error.errno == errno.EADDRINUSE:
            return PortTakenError(
                "another program listens there",
                where=f"[health] listen = {self._listen}",
                remedy='stop it, choose another port, or take a free one with listen = "127.0.0.1:0"',
            )
        return ConfigError(
            f"cannot listen there: {error.strerror or error}",
            where=f"[health] listen = {self._listen}",
            remedy='use an address of this machine, for example "127.0.0.1:0"',
        )


def read_head(head: bytes) -> Asked | None:
    """The head of a request; None where it is none."""
    line, _, _ = head.partition(b"\r\n")
    words = line.split(b" ")
    if len(words) != 3 or words[2] not in (b"HTTP/1.1", b"HTTP/1.0") or not line.isascii():
        return None
    keep = words[2] == b"HTTP/1.1" and _BODY.search(head) is None and _CLOSE.search(head) is None
    return Asked(words[0].decode(), words[1].decode().partition("?")[0], keep)


def as_bytes(answer: Answer, *, keep: bool, with_body: bool) -> bytes:
    """The answer as it goes over the wire."""
    lines = [
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
        f"Date: {formatdate(usegmt=True)}",
        f"Content-Type: {answer.kind}",
        f"Content-Length: {len(answer.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        *(["Allow: GET, HEAD"] if answer.status == HTTPStatus.METHOD_NOT_ALLOWED else []),
        f"Connection: {'keep-alive' if keep else 'close'}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + (answer.body if with_body else b"")


def report_answer(report: HealthReport) -> Answer:
    """200 where all is well, 503 otherwise, with what each check says."""
    body = {"status": "ok" if report.ok else "failing", "checks": dict(report.checks)}
    return json_answer(body, status=200 if report.ok else 503)


def json_answer(body: Mapping[str, object], *, status: int = 200, kind: str = "application/json") -> Answer:
    """``body`` as JSON."""
    return Answer(status, json.dumps(body, default=str).encode(), kind)


def metrics_answer(rendered: bytes) -> Answer:
    """Metrics in Prometheus' text format."""
    return Answer(200, rendered, CONTENT_TYPE)


def problem(code: str, title: str, status: int) -> Answer:
    """Problem details (RFC 9457)."""
    body = {"type": f"urn:broker-bridge:error:{code}", "title": title, "status": status, "code": code}
    return json_answer(body, status=status, kind="application/problem+json")


async def ask(address: tuple[str, int], path: str) -> Answer | None:
    """What a site at ``address`` answers to a GET; None where it is away or breaks off."""
    try:
        reader, writer = await asyncio.open_connection(*address)
    except OSError:
        return None
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {address[0]}\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        words = head.split(b" ", 2)
        length = re.search(rb"\r\nContent-Length: (\d+)", head)
        whole = length is not None and int(length[1]) == len(body)
        return Answer(int(words[1]), body) if whole and words[1].isdigit() else None
    except OSError:
        return None
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
