"""What answers and failures of a real server mean, some of them hostile."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket

import pytest
from aiohttp import web
from http_labs import CONTEXT, MESSAGE, answering, delivered, failure, raw_server, server, target_at

from broker_bridge.errors import (
    DeliveryError,
    OutputInvalidError,
    RejectedError,
    RetryLaterError,
    TargetTimeoutError,
    TargetUnavailableError,
    TargetUnreachableError,
)
from broker_bridge.worker.targets.http_answer import error_of

NOW_MS = 1_795_507_200_000


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"payment": "p-1", "cents": 5}', {"payment": "p-1", "cents": 5}),
        (201, b"[1, 2]", [1, 2]),
        (200, b"null", None),
        (200, b'"text"', "text"),
        (202, b"", None),
        (204, b"", None),
        (299, b"7", 7),
    ],
)
async def test_answers(status: int, body: bytes, expected: object) -> None:
    assert await delivered(answering(status, body)) == expected


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"{", b'{"a": 1} trailing', b"\xff\xfe\xfa", b"[" * 200_000, b"1" * 10_000, b"\x1f\x8b\x08\x00"],
    ids=["html", "cut", "trailing", "not-utf8", "deep", "long-number", "gzip"],
)
async def test_an_answer_that_is_not_json_is_the_targets_mistake(body: bytes) -> None:
    error = await failure(answering(200, body))
    assert isinstance(error, OutputInvalidError)
    assert not error.retriable
    assert len(str(error)) < 300


async def test_a_packed_answer_is_not_unpacked() -> None:
    """261 KB of gzip can be 256 MB of answer; none is asked for, so none is taken."""
    for answer in (b'{"a": 1}', b'"' + b"x" * 5_000_000 + b'"'):
        error = await failure(answering(200, gzip.compress(answer), content_encoding="gzip"))
        assert isinstance(error, OutputInvalidError)
        assert "not JSON" in error.detail


async def test_an_answer_of_exactly_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    assert await delivered(answering(200, b'"1234567"'), max_response_bytes=9) == "1234567"
    error = await failure(answering(200, b'"12345678"'), max_response_bytes=9)
    assert isinstance(error, OutputInvalidError)
    assert "9 bytes" in error.detail
    assert error.remedy


async def test_an_endless_answer_ends_at_the_limit() -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)
            sent += 65_536

    error = await failure(endless, max_response_bytes=100_000, timeout="20s")
    assert isinstance(error, OutputInvalidError)
    assert sent < 50_000_000


ROWS: list[tuple[int, str | None, type[DeliveryError]]] = [
    (409, None, RetryLaterError),
    (425, None, RetryLaterError),
    (429, None, RetryLaterError),
    (429, "7", RetryLaterError),
    (503, "7", RetryLaterError),
    (503, None, TargetUnavailableError),
    (503, "soon", TargetUnavailableError),
    (401, None, TargetUnavailableError),
    (403, None, TargetUnavailableError),
    (407, None, TargetUnavailableError),
    (408, None, TargetTimeoutError),
    (500, None, TargetUnavailableError),
    (500, "7", TargetUnavailableError),
    (501, None, TargetUnavailableError),
    (502, None, TargetUnavailableError),
    (504, None, TargetUnavailableError),
    (599, None, TargetUnavailableError),
    (300, None, RejectedError),
    (304, None, RejectedError),
    (400, None, RejectedError),
    (402, None, RejectedError),
    (404, None, RejectedError),
    (405, None, RejectedError),
    (410, None, RejectedError),
    (413, None, RejectedError),
    (418, None, RejectedError),
    (422, None, RejectedError),
    (422, "7", RejectedError),
    (451, None, RejectedError),
]


@pytest.mark.parametrize(("status", "retry_after", "expected"), ROWS)
async def test_every_row_of_the_table(status: int, retry_after: str | None, expected: type[DeliveryError]) -> None:
    headers = {} if retry_after is None else {"retry_after": retry_after}
    error = await failure(
        answering(status, b'{"code": "own_code", "detail": "why"}' if status != 304 else b"", **headers)
    )
    assert type(error) is expected
    assert error.target_code == ("own_code" if status != 304 else "http_304")
    assert str(status) in error.detail
    has_wait = retry_after == "7" and expected in (RetryLaterError, TargetUnavailableError)
    assert error.retry_after_ms == (7_000 if has_wait else None)
    assert error.spends_attempt == (expected is not RetryLaterError)
    assert error.outage == (expected in (TargetTimeoutError, TargetUnavailableError))
    assert error.retriable == (expected is not RejectedError)


def test_no_status_is_without_a_meaning() -> None:
    for status in range(100, 600):
        error = error_of(status, None, b"", NOW_MS)
        assert error.retriable == (status >= 500 or status in {401, 403, 407, 408, 409, 425, 429}), status


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    async with server(answering(204)) as (elsewhere, reached):
        error = await failure(answering(status, location=elsewhere))
    assert isinstance(error, RejectedError)
    assert error.target_code == f"http_{status}"
    assert reached.requests == []


@pytest.mark.parametrize(
    ("status", "expected"), [(500, TargetUnavailableError), (429, RetryLaterError), (422, RejectedError)]
)
async def test_however_long_a_failure_is_its_status_says_what_it_means(
    status: int, expected: type[DeliveryError]
) -> None:
    """A page of HTML beyond the limit must not make an outage the death of the message."""
    error = await failure(answering(status, b"<html>" * 50_000), max_response_bytes=100)
    assert type(error) is expected
    assert error.target_code == f"http_{status}"


async def test_problem_details_longer_than_the_limit_of_answers_are_still_read() -> None:
    body = json.dumps({"code": "card_declined", "detail": "x" * 500}).encode()
    assert (await failure(answering(422, body), max_response_bytes=100)).target_code == "card_declined"


async def test_no_answer_in_time() -> None:
    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    error = await failure(never, timeout="500ms")
    assert isinstance(error, TargetTimeoutError)
    assert (error.target_code, "500 ms" in error.detail) == ("timeout", True)


async def test_an_answer_that_stops_in_the_middle_is_late_too() -> None:
    async def stalls(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"a":')
        await asyncio.Event().wait()
        return response

    assert isinstance(await failure(stalls, timeout="500ms"), TargetTimeoutError)


async def test_connection_refused() -> None:
    with socket.socket() as bound:  # bound and not listening: nobody else can take the port meanwhile
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        async with target_at(url) as target:
            with pytest.raises(TargetUnreachableError, match="cannot connect") as caught:
                await target.deliver(MESSAGE, CONTEXT)
    assert (caught.value.target_code, caught.value.where) == ("connect", url)


async def test_a_connection_that_nobody_takes_never_reached_the_target() -> None:
    """Who listens and accepts nothing, with a full backlog, lets connections hang as a firewall does."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        taken = []
        try:
            for _ in range(8):
                taken.append(socket.socket())
                taken[-1].setblocking(False)
                taken[-1].connect_ex(full.getsockname())
            async with target_at(f"http://127.0.0.1:{full.getsockname()[1]}/", timeout="400ms") as target:
                with pytest.raises(TargetUnreachableError, match="nobody takes the connection") as caught:
                    await target.deliver(MESSAGE, CONTEXT)
        finally:
            for one in taken:
                one.close()
    assert not caught.value.spends_attempt


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(
    "say",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
        b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"a"',
        b"HTTP/1.1 500 Oops\r\ncontent-length: 100\r\n\r\n{",
    ],
    ids=["nothing", "no-headers", "length", "chunk", "failure"],
)
async def test_broken_off_in_the_middle(say: bytes, reset: bool) -> None:
    async with raw_server(say, reset=reset) as url, target_at(url, timeout="5s") as target:
        with pytest.raises(TargetUnavailableError) as caught:
            await target.deliver(MESSAGE, CONTEXT)
    assert caught.value.target_code == "connection"


@pytest.mark.parametrize(
    "say",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",
        b"HTTP/9.9 abc\r\n\r\n",
        b"\x00" * 100,
    ],
    ids=["ssh", "long-header", "negative-length", "bad-status", "nul"],
)
async def test_what_is_not_http_is_not_the_messages_fault(say: bytes) -> None:
    async with raw_server(say, reset=False) as url, target_at(url, timeout="5s") as target:
        with pytest.raises(TargetUnavailableError):
            await target.deliver(MESSAGE, CONTEXT)


async def test_goes_on_after_every_kind_of_failure() -> None:
    """No failure leaves a connection behind that would spoil or block a later delivery."""
    turn = iter(range(1_000))

    async def changing(request: web.Request) -> web.StreamResponse:
        match next(turn) % 5:
            case 0:
                return web.Response(status=500, body=b"x" * 200_000)
            case 1:
                return web.Response(body=b"y" * 5_000)
            case 2:
                await asyncio.Event().wait()
            case 3:
                assert request.transport is not None
                request.transport.abort()
        return web.Response(body=b'{"ok": true}')

    async with server(changing) as (url, _), target_at(url, max_response_bytes=1_000, timeout="500ms") as target:
        kinds = []
        for _ in range(15):
            try:
                kinds.append(await target.deliver(MESSAGE, CONTEXT))
            except DeliveryError as error:
                kinds.append(type(error))
    expected = [TargetUnavailableError, OutputInvalidError, TargetTimeoutError, TargetUnavailableError, {"ok": True}]
    assert kinds == expected * 3


async def test_cookies_are_not_kept() -> None:
    async with server(answering(204, set_cookie="a=b")) as (url, seen), target_at(url) as target:
        await target.deliver(MESSAGE, CONTEXT)
        await target.deliver(MESSAGE, CONTEXT)
    assert "cookie" not in seen.requests[1].headers


async def test_proxy_variables_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert await delivered(answering(200, b"1")) == 1


async def test_stop_may_come_twice() -> None:
    async with target_at("http://127.0.0.1:1/") as target:
        await target.stop()
