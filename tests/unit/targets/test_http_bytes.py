"""Bytes of answers, cut anywhere or made up: what is read does not depend on how they arrive, and nothing escapes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from broker_bridge.errors import BridgeError, DeliveryError, OutputInvalidError, TargetUnavailableError
from broker_bridge.worker.targets.http_batch_form import Done, results_in
from broker_bridge.worker.targets.http_connection import HttpAnswer, HttpConnection

LIMIT = 1_000
CHUNKS = b"transfer-encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nx: y\r\n\r\n"
ANSWERS = (
    (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", HttpAnswer(200, None, b"hello")),
    (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\nRetry-After: 7\r\n" + CHUNKS,
        HttpAnswer(503, "7", b"hello"),
    ),
    (b"HTTP/1.1 204 No Content\r\n\r\n", HttpAnswer(204, None, b"")),
)


class Wire(asyncio.Transport):
    """The other end of a connection: what is written is taken, what is aborted is lost."""

    def __init__(self, connection: HttpConnection) -> None:
        super().__init__()
        self._connection = connection
        self.is_up = True
        connection.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert self.is_up

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.end(None)

    def end(self, error: Exception | None) -> None:
        if self.is_up:
            self.is_up = False
            self._connection.connection_lost(error)

    def feed(self, parts: Iterable[bytes]) -> None:
        for part in parts:
            if self.is_up and part:
                self._connection.data_received(part)


def connected(act: Callable[[HttpConnection, Wire], None]) -> None:
    """A connection of its own, on a loop that never runs."""
    loop = asyncio.new_event_loop()
    try:
        connection = HttpConnection("http://peer/", loop)
        act(connection, Wire(connection))
    finally:
        loop.close()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=4), st.lists(st.integers(0, 400), max_size=30))
@settings(max_examples=200, deadline=None)
def test_however_an_answer_is_cut_it_is_the_same(answers: list[tuple[bytes, HttpAnswer]], places: list[int]) -> None:
    def ask_in_turn(connection: HttpConnection, wire: Wire) -> None:
        for data, expected in answers:
            answer = connection.ask(b"request", limit=LIMIT)
            parts = cut(data, places)
            wire.feed(parts[:-1])
            assert not answer.done()
            wire.feed(parts[-1:])
            assert answer.result() == expected
            assert connection.reusable

    connected(ask_in_turn)


PIECES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 500 \r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 101 Up\r\n", b"\r\n",
        b"content-length: 3\r\n", b"content-length: 99999999999999999999\r\n", b"transfer-encoding: chunked\r\n",
        b"transfer-encoding: gzip\r\n", b"connection: close\r\n", b"connection: upgrade\r\nupgrade: h2c\r\n",
        b"keep-alive: timeout=\r\n", b"keep-alive: timeout=00000000009\r\n", b"retry-after: \xff\r\n", b"3\r\nabc\r\n",
        b"0\r\n\r\n", b"abc", b"ffffffffffffffffff\r\n", b"\x00", b"x" * 2_000,
    ]
)  # fmt: skip


@given(
    st.lists(PIECES | st.binary(max_size=20), max_size=12).map(b"".join),
    st.lists(st.integers(0, 3_000), max_size=6),
    st.sampled_from([None, ConnectionResetError()]),
)
@settings(max_examples=500, deadline=None)
def test_whatever_comes_ends_in_an_answer_or_an_error(data: bytes, places: list[int], end: Exception | None) -> None:
    def ask_and_ask(connection: HttpConnection, wire: Wire) -> None:
        answer = connection.ask(b"request", limit=LIMIT)
        wire.feed(cut(data, places))
        wire.end(end)
        found = answer.result()
        assert not connection.reusable, "it has ended"
        assert connection.lost.done()
        if isinstance(found, BridgeError):
            assert isinstance(found, TargetUnavailableError | OutputInvalidError)
        else:
            assert 200 <= found.status <= 999
            assert len(found.body) <= 65_536 + len(data)

    connected(ask_and_ask)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["idempotencykey", "status", "result", "problem", "retry_after"]), inner)
    ),
    max_leaves=10,
)
ENTRY = st.fixed_dictionaries(
    {"idempotencykey": st.sampled_from(["a", "b"]) | JSON, "status": st.integers(100, 699) | JSON},
    optional={"result": JSON, "problem": JSON, "retry_after": JSON},
)


@given(st.lists(ENTRY | JSON, max_size=5) | JSON)
@settings(max_examples=200, deadline=None)
def test_whatever_a_batch_is_answered_with_each_key_has_one_result_or_none(reply: object) -> None:
    found = results_in(json.dumps(reply).encode(), 0)
    assert (found is None) == (not isinstance(reply, list))
    for key, result in (found or {}).items():
        assert isinstance(key, str)
        assert isinstance(result, Done | DeliveryError)
        told = [entry for entry in reply if isinstance(entry, dict) and entry.get("idempotencykey") == key]  # type: ignore[attr-defined]
        assert isinstance(result, DeliveryError) or 200 <= told[0]["status"] < 300
