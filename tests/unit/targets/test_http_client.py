"""The HTTP client against peers that say exactly what they are told to: framing, kept connections, limits."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest
from http_peers import OK, PATIENCE_S, Peer, client_of, peer_that, post, saying, without_end

from broker_bridge.errors import (
    BridgeError,
    ConfigError,
    OutputInvalidError,
    TargetTimeoutError,
    TargetUnavailableError,
    TargetUnreachableError,
)
from broker_bridge.worker.targets.http_client import HttpClient

FRAMED = {
    "length": (OK, b"ok"),
    "chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\nx-t: 1\r\n\r\n",
        b"ok",
    ),
    "no body": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "continue": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
    "early hints": (b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 3 + OK, b"ok"),
    "names in capitals": (b"HTTP/1.1 200 OK\r\nCONTENT-LENGTH: 2\r\n\r\nok", b"ok"),
    "nothing": (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b""),
}


@pytest.mark.parametrize("name", FRAMED)
async def test_an_answer_is_read_to_its_end_and_the_connection_kept(name: str) -> None:
    said, body = FRAMED[name]
    async with peer_that(saying(said)) as (url, peer), client_of(url) as client:
        for _ in range(3):
            assert (await post(client)).body == body
    assert peer.requests == [3]


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=1, max=9\r\ncontent-length: 2\r\n\r\nok",
        OK + b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged",
        OK + b"more",
    ],
    ids=["close", "http-1.0", "kept-for-a-second", "an-answer-too-many", "bytes-too-many"],
)
async def test_a_connection_that_is_not_fit_for_it_is_not_used_again(said: bytes) -> None:
    async with peer_that(saying(said)) as (url, peer), client_of(url) as client:
        for _ in range(3):
            assert (await post(client)).body == b"ok"
    assert peer.requests == [1, 1, 1]


async def test_a_body_without_a_length_ends_with_its_connection() -> None:
    async with (
        peer_that(saying(b"HTTP/1.1 200 OK\r\n\r\nthe end", close=True)) as (url, peer),
        client_of(url) as client,
    ):
        for _ in range(2):
            assert (await post(client)).body == b"the end"
    assert peer.requests == [1, 1]


async def test_what_comes_on_a_kept_connection_unasked_ends_it() -> None:
    """It would pass for the answer to the next request."""
    go = asyncio.Event()

    async def late(_: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer) -> bool:
        writer.write(OK)
        if len(peer.connections) == 1:
            await go.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged")
        return True

    async with peer_that(late) as (url, peer), client_of(url) as client:
        await post(client)
        kept = client._kept[0]
        go.set()
        await asyncio.wait_for(kept.lost, PATIENCE_S)
        assert (await post(client)).body == b"ok"
    assert peer.requests == [1, 1]


async def test_a_kept_connection_that_was_closed_meanwhile_is_not_used() -> None:
    async with peer_that(saying(OK, close=True)) as (url, peer), client_of(url) as client:
        for _ in range(3):
            assert (await post(client)).body == b"ok"
            for kept in client._kept:
                await asyncio.wait_for(kept.lost, PATIENCE_S)
    assert peer.requests == [1, 1, 1]


ENDLESS = {
    "head": (b"HTTP/1.1 200 OK\r\nx: ", b"y"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"),
    "status line": (b"HTTP/1.1 200 ", b"OK"),
    "1xx": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "trailers": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n"),
    "extension of a chunk": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", b"x"),
    "zeros of a chunk size": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"0"),
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_nothing_around_a_body_goes_on_for_ever(name: str) -> None:
    async with peer_that(without_end(*ENDLESS[name])) as (url, peer), client_of(url) as client:
        with pytest.raises(TargetUnavailableError, match="connection broke off"):
            await post(client)
    assert peer.sent < 32 << 20, "sockets hold some megabytes"


async def test_headers_beyond_their_limit_are_refused_also_where_they_end() -> None:
    fits, too_long = (b"HTTP/1.1 200 OK\r\n" + b"x: %s\r\n" % (b"y" * 1_000) * n + OK[17:] for n in (60, 70))
    async with peer_that(saying(fits, too_long)) as (url, _), client_of(url) as client:
        assert (await post(client)).body == b"ok"
        with pytest.raises(TargetUnavailableError, match="headers are longer"):
            await post(client)


async def test_a_body_in_the_smallest_chunks_is_no_attack() -> None:
    said = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 60_000 + b"0\r\n\r\n"
    async with peer_that(saying(said)) as (url, _), client_of(url) as client:
        assert len((await post(client)).body) == 60_000
        with pytest.raises(OutputInvalidError, match="59999 bytes"):
            await post(client, limit=59_999)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nx : y\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.2 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n" + OK,
    ],
    ids=["length-and-chunks", "two-lengths", "bare-lf", "space-in-name", "negative-chunk", "http-1.2", "upgrade"],
)
async def test_what_could_be_read_in_two_ways_is_not_read(said: bytes) -> None:
    async with peer_that(saying(said)) as (url, _), client_of(url) as client:
        with pytest.raises(TargetUnavailableError, match="not HTTP"):
            await post(client)


async def test_a_request_refused_before_it_was_read_spoils_its_connection_only() -> None:
    """The target answers and reads no further: what is left of the request must not pass for the next one."""

    async def refuse_large(_: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer) -> bool:
        first = len(peer.connections) == 1
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n" if first else OK)
        if first:
            await asyncio.Event().wait()
        return True

    async with peer_that(refuse_large) as (url, peer), client_of(url) as client:
        assert (await post(client, b"x" * (32 << 20))).status == 413
        assert (await post(client)).body == b"ok"
    assert peer.requests == [1, 1]


async def test_no_more_requests_at_once_than_there_may_be_connections() -> None:
    async def slow(_: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer) -> bool:
        for _ in range(5):
            await asyncio.sleep(0)
        writer.write(OK)
        return True

    async with peer_that(slow) as (url, peer), client_of(url, connections=3) as client:
        answers = await asyncio.gather(*(post(client) for _ in range(30)))
    assert {answer.body for answer in answers} == {b"ok"}
    assert (peer.most_at_once, sum(peer.requests)) == (3, 30)


async def test_each_request_has_its_own_deadline_and_waiting_for_a_connection_counts() -> None:
    async def never(_: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer) -> bool:
        await asyncio.Event().wait()
        return True

    async with peer_that(never) as (url, _), client_of(url, connections=3, timeout_ms=600) as client:
        found = await asyncio.gather(*(post(client) for _ in range(7)), return_exceptions=True)
    assert {type(error) for error in found} == {TargetTimeoutError}
    assert all(error.target_code == "timeout" for error in found if isinstance(error, TargetTimeoutError))


async def test_who_is_cancelled_leaves_no_answer_behind_for_the_next() -> None:
    reached, go = asyncio.Event(), asyncio.Event()

    async def first_is_late(_: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer) -> bool:
        if len(peer.connections) == 1:
            reached.set()
            await go.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate")
        writer.write(OK)
        return True

    async with peer_that(first_is_late) as (url, peer), client_of(url, connections=1) as client:
        request = asyncio.create_task(post(client))
        await asyncio.wait_for(reached.wait(), PATIENCE_S)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        go.set()
        assert (await post(client)).body == b"ok"
    assert peer.requests == [1, 1]


async def test_stopping_ends_what_is_under_way() -> None:
    reached = asyncio.Event()

    async def never(_: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer) -> bool:
        reached.set()
        await asyncio.Event().wait()
        return True

    async with peer_that(never) as (url, _), client_of(url) as client:
        request = asyncio.create_task(post(client))
        await asyncio.wait_for(reached.wait(), PATIENCE_S)
        await client.stop()
        with pytest.raises(TargetUnavailableError, match="broke off"):
            await request


async def test_the_url_goes_out_as_urls_do() -> None:
    async with peer_that(saying(OK)) as (url, peer), client_of(f"{url}/a b/ü?x=1&y=ä#part", Host="shop") as client:
        await post(client)
    head = peer.connections[0][0].decode()
    assert head.startswith("POST /orders/a%20b/%C3%BC?x=1&y=%C3%A4 HTTP/1.1\r\n")
    assert head.lower().count("host: ") == 1
    assert "host: shop\r\n" in head


async def test_a_host_that_is_none_is_said_at_the_start() -> None:
    with pytest.raises(ConfigError, match="cannot be called"):
        HttpClient("http://[::1/", headers={}, connections=1, timeout_ms=1_000).start()


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]"])
async def test_an_address_that_is_never_called_is_not_called_however_it_was_found(host: str) -> None:
    async with client_of(f"http://{host}/") as client:
        with pytest.raises(TargetUnreachableError, match="link-local") as caught:
            await post(client)
    assert not caught.value.spends_attempt


async def test_a_name_that_nobody_knows_is_unreachable() -> None:
    async with client_of("http://payments.invalid/") as client:
        with pytest.raises(TargetUnreachableError):
            await post(client)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of localhost in one file, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    made = folder / "localhost.pem"
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        f" -addext subjectAltName=DNS:localhost -out {made} -keyout {folder / 'key'}".split(),
        check=True,
        capture_output=True,
        timeout=60,
    )
    made.write_bytes(made.read_bytes() + (folder / "key").read_bytes())
    return made


def _server_side(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


async def test_over_tls_with_a_certificate_that_is_trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with peer_that(saying(OK), tls=_server_side(certificate)) as (url, peer), client_of(url) as client:
        for _ in range(3):
            assert (await post(client)).body == b"ok"
    assert peer.requests == [3]


async def test_a_certificate_that_is_not_trusted_ends_the_call_before_anything_is_sent(certificate: Path) -> None:
    async with peer_that(saying(OK), tls=_server_side(certificate)) as (url, peer), client_of(url) as client:
        with pytest.raises(TargetUnreachableError, match="cannot connect"):
            await post(client)
    assert sum(peer.requests) == 0


def test_the_same_on_uvloop() -> None:
    """The loop of a worker that has it: other transports, other sockets."""
    import uvloop

    async def all_kinds() -> list[object]:
        found: list[object] = []
        answers = [OK, FRAMED["chunks"][0], OK + b"more", b"SSH-2.0", OK]
        async with peer_that(saying(*answers)) as (url, peer), client_of(url) as client:
            for _ in answers:
                try:
                    found.append((await post(client)).body)
                except BridgeError as error:
                    found.append(type(error))
            found.append(peer.requests)
        async with (
            peer_that(without_end(*ENDLESS["trailers"])) as (url, _),
            client_of(url, timeout_ms=20_000) as client,
        ):
            try:
                await post(client)
            except BridgeError as error:
                found.append(type(error))
        return found

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(all_kinds())
    assert found == [b"ok", b"ok", b"ok", TargetUnavailableError, b"ok", [3, 1, 1], TargetUnavailableError]
