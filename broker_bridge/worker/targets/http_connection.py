"""One kept HTTP/1.1 connection: a request goes out, its answer comes back, nothing else may come.

Bytes are parsed by llhttp (the parser of Node.js, through httptools), strictly. aiohttp's client spends 70 µs of CPU on
such an exchange where this spends 11 (32 at once, loopback, uvloop): a session for one URL needs no cookies, redirects,
streams, or a timer and a task for each request.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from broker_bridge.errors import BridgeError, OutputInvalidError, TargetUnavailableError

KEEP_S = 30.0
"""A connection that was not used for so long is not used again; shorter where the target says so."""
PROBLEM_BYTES = 65_536
"""As much of a failure's body is read."""
_HEAD_BYTES = 65_536
"""Names and values of all headers of an answer, at most."""
_AROUND_BYTES = 131_072
"""What may come beside the body: headers, trailers, extensions of chunks, answers of 1xx. A body in chunks of one byte
takes six bytes for each."""
_FRAMING = (b"content-length", b"transfer-encoding")
_READ = frozenset({*_FRAMING, b"retry-after", b"keep-alive"})


class HttpAnswer(NamedTuple):
    """Status and body. The body of anything outside 2xx may be cut short: its status says what it means."""

    status: int
    retry_after: str | None
    body: bytes


class HttpConnection(asyncio.Protocol):
    """Made by the event loop. ``reusable`` says whether it may be asked again, until ``keep_until_s`` of the loop's
    clock."""

    def __init__(self, where: str, loop: asyncio.AbstractEventLoop) -> None:
        self.reusable = False
        self.keep_until_s = 0.0
        self.lost = loop.create_future()
        self._where = where
        self._loop = loop
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[HttpAnswer | BridgeError] | None = None
        self._limit = 0
        self._received = 0
        self._framed = False
        self._begin_answer()

    def ask(self, request: bytes, *, limit: int) -> asyncio.Future[HttpAnswer | BridgeError]:
        """Send one request. The future gets the answer, or why there is none: it never raises, so that one whom nobody
        waits for any more needs no care. ``limit`` is the longest body of a success."""
        assert self._transport is not None
        self.reusable = False
        self._limit = limit
        self._received = 0
        self._begin_answer()
        self._answer = self._loop.create_future()
        self._transport.write(request)
        return self._answer

    def fail(self, error: BridgeError) -> None:
        """End the exchange, and the connection with it."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(error)
        self.abort()

    def abort(self) -> None:
        """End the connection at once; ``lost`` says when it has ended."""
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()
        elif not self.lost.done():
            self.lost.set_result(None)

    # what the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer. Any that nobody asked for end the connection: they would pass for the next answer."""
        if self._answer is None or self._answer.done() or self._parser is None:
            self.abort()
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._break_off(f"what came is not HTTP: {error}")
        if self._received - 8 * self._size > _AROUND_BYTES and not self._answer.done():
            self._break_off("the answer has more around its body than an answer has")

    def connection_lost(self, exc: Exception | None) -> None:
        """It ended. That is how an answer ends that says nothing of its length."""
        self.reusable = False
        self._parser = self._transport = None
        if exc is None and self._status >= 200 and not self._framed:
            self._finish()
        self._break_off("it was reset" if exc else "the target closed it")
        if not self.lost.done():
            self.lost.set_result(None)

    # what the parser tells

    def on_message_begin(self) -> None:
        """Another answer behind the one that was asked for: none of ours."""
        self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        self._head_bytes += len(name) + len(value)
        name = name.lower()
        if name in _READ:
            self._headers[name] = value
            if name in _FRAMING:
                self._framed = True

    def on_headers_complete(self) -> None:
        """The status says how much of the body is wanted."""
        assert self._parser is not None
        self._status = self._parser.get_status_code()
        if self._head_bytes > _HEAD_BYTES:
            self._break_off(f"the answer's headers are longer than {_HEAD_BYTES} bytes")

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._size += len(body)
        self._chunks.append(body)
        is_success = 200 <= self._status < 300
        if self._size <= (self._limit if is_success else PROBLEM_BYTES):
            return
        self.reusable = False
        if is_success:
            self.fail(
                OutputInvalidError(
                    f"the answer is larger than {self._limit} bytes",
                    where=self._where,
                    remedy="answer less, or raise [route.target] max_response_bytes",
                )
            )
        else:
            self._finish()
            self.abort()
        self._chunks.clear()

    def on_message_complete(self) -> None:
        """An answer is there; one of 1xx says only that another follows."""
        assert self._parser is not None
        if self._status < 200:
            self._begin_answer()
            return
        if self._answer is None or self._answer.done():
            return
        self.reusable = self._parser.should_keep_alive() and self._has_sent_all()
        self.keep_until_s = self._loop.time() + self._keep_s()
        self._finish()

    def _begin_answer(self) -> None:
        self._status = 0
        self._size = 0
        self._head_bytes = 0
        self._framed = False
        self._chunks: list[bytes] = []
        self._headers: dict[bytes, bytes] = {}

    def _finish(self) -> None:
        if self._answer is None or self._answer.done():
            return
        retry_after = self._headers.get(b"retry-after")
        self._answer.set_result(
            HttpAnswer(self._status, retry_after.decode("latin-1") if retry_after else None, b"".join(self._chunks))
        )

    def _has_sent_all(self) -> bool:
        """A target may refuse a request before it has read it; the rest of it would be taken for the next."""
        return self._transport is not None and self._transport.get_write_buffer_size() == 0

    def _keep_s(self) -> float:
        """``Keep-Alive: timeout=5`` means that the target closes after 5 s; it is not used in the last of them."""
        told = self._headers.get(b"keep-alive")
        if told is None:
            return KEEP_S
        _, found, rest = told.lower().partition(b"timeout=")
        digits = rest[: len(rest) - len(rest.lstrip(b"0123456789"))]
        return min(KEEP_S, float(digits[:6]) - 1) if found and digits else KEEP_S

    def _break_off(self, why: str) -> None:
        self.fail(TargetUnavailableError(f"connection broke off: {why}", where=self._where, target_code="connection"))
