"""The schema server over real HTTP on loopback: what clients send, what hostile ones send, and how it ends."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from schema_registries import served

from broker_bridge.contracts import SchemaDirectory
from broker_bridge.contracts.folder_files import locked
from broker_bridge.contracts.registry_api import RegistryApi
from broker_bridge.contracts.served_folder import ServedFolder
from broker_bridge.errors import ConfigError, PortTakenError
from broker_bridge.schema_server.server import LARGEST_BODY_BYTES, MEDIA_TYPE, SchemaServer

DEADLINE_S = 30.0
SUBJECT = "orders.placed-value"


def record(*fields: str, name: str = "One") -> str:
    made = [{"name": field, "type": "int", "default": 0} for field in fields]
    return json.dumps({"type": "record", "name": name, "fields": made})


def call(
    url: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any, dict[str, str]]:
    """Status, answer and headers. ``body`` is JSON unless it is bytes."""
    where = urlsplit(url)
    with closing(http.client.HTTPConnection(str(where.hostname), where.port, timeout=DEADLINE_S)) as connection:
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, path, raw, {"Content-Type": MEDIA_TYPE} | (headers or {}))
        response = connection.getresponse()
        text = response.read()
        found = {name.lower(): value for name, value in response.getheaders()}
        return response.status, json.loads(text) if text else None, found


def raw(url: str) -> socket.socket:
    where = urlsplit(url)
    return socket.create_connection((str(where.hostname), where.port), timeout=DEADLINE_S)


def test_the_answer_says_what_it_is(schema_server: str) -> None:
    status, answer, headers = call(schema_server, "GET", "/subjects")
    assert (status, answer) == (200, [])
    assert headers["content-type"] == MEDIA_TYPE
    assert headers["cache-control"] == "no-store"
    status, answer, headers = call(schema_server, "GET", "/schemas/ids/1")
    assert (status, answer["error_code"], headers["content-type"]) == (404, 40403, MEDIA_TYPE)
    assert call(schema_server, "HEAD", "/subjects")[:2] == (200, None)
    assert call(schema_server, "OPTIONS", "/subjects")[0] == 405
    assert call(schema_server, "GET", "/config/")[0] == 200, "a slash at the end changes nothing"


@pytest.mark.parametrize(
    "kind", [MEDIA_TYPE, "application/json; charset=utf-8", "application/vnd.schemaregistry+json", "APPLICATION/JSON"]
)
def test_types_of_bodies(schema_server: str, kind: str) -> None:
    body = {"schema": record("a")}
    status, answer, _ = call(schema_server, "POST", f"/subjects/{SUBJECT}/versions", body, {"Content-Type": kind})
    assert (status, answer["id"]) == (200, 1)


def test_subjects_come_encoded(schema_server: str, served_schemas: Path) -> None:
    body = {"schema": record("a", name="One")}
    assert call(schema_server, "POST", "/subjects/orders%2Eplaced%2Dvalue/versions", body)[0] == 200
    assert SchemaDirectory(served_schemas).subjects() == [SUBJECT]
    for hostile in ("..%2F..%2Fescaped-value", "%2e%2e", "a%00b-value", "%ff-value", "a%0Ab-value"):
        status, answer, _ = call(schema_server, "POST", f"/subjects/{hostile}/versions", body)
        assert (status, answer["error_code"]) == (422, 42208), hostile
    assert [path.name for path in served_schemas.iterdir() if path.is_dir()] == [SUBJECT]
    assert not list(served_schemas.parent.glob("escaped*"))


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_page_in_a_browser_can_send_unasked_is_refused(schema_server: str, kind: str) -> None:
    path, body = f"/subjects/{SUBJECT}/versions", {"schema": record("a")}
    assert call(schema_server, "POST", path, body, {"Content-Type": kind})[1]["error_code"] == 415
    status, answer, headers = call(schema_server, "POST", path, body, {"Origin": "http://evil.example"})
    assert (status, answer["error_code"]) == (403, 403)
    assert not [name for name in headers if name.startswith("access-control")]
    assert call(schema_server, "GET", "/subjects")[1] == []


def test_bodies_have_a_limit(schema_server: str) -> None:
    path = f"/subjects/{SUBJECT}/versions"
    status, answer, _ = call(schema_server, "POST", path, b" " * (LARGEST_BODY_BYTES + 1))
    assert (status, answer["error_code"]) == (413, 413)
    with raw(schema_server) as client:  # without a length, in pieces
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {MEDIA_TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.sendall(head.encode())
        piece = b"10000\r\n" + b" " * 65_536 + b"\r\n"
        for _ in range(LARGEST_BODY_BYTES // 65_536 + 1):
            client.sendall(piece)
        assert client.recv(100).startswith(b"HTTP/1.1 413")
    assert call(schema_server, "GET", "/subjects")[0] == 200


def test_a_body_that_does_not_come_is_not_waited_for(served_schemas: Path) -> None:
    with served(served_schemas, body_within_s=0.2) as url, raw(url) as client:
        head = (
            f"POST /subjects/{SUBJECT} HTTP/1.1\r\nHost: x\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: 9\r\n\r\n"
        )
        client.sendall(head.encode() + b"{")
        assert call(url, "GET", "/subjects")[0] == 200, "others are answered meanwhile"
        answer = b""
        while part := client.recv(4_096):
            answer += part
        assert answer.startswith(b"HTTP/1.1 408")
        assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["error_code"] == 408


@pytest.mark.parametrize(
    "request_",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /subjects HTTP/9.9\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /subjects/x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /subjects/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["no text", "cut", "another version", "long path", "negative length", "two lengths"],
)
def test_what_is_no_http_is_answered_without_a_traceback(schema_server: str, request_: bytes) -> None:
    with raw(schema_server) as client:
        client.sendall(request_)
        answer = b""
        while part := client.recv(65_536):
            answer += part
    assert answer == b"" or answer.startswith(b"HTTP/1.")
    assert b"Traceback" not in answer
    assert call(schema_server, "GET", "/subjects")[0] == 200


def test_connections_that_say_nothing_keep_nobody_from_being_answered(schema_server: str) -> None:
    idle = [raw(schema_server) for _ in range(200)]
    try:
        for client in idle[:100]:
            client.sendall(b"GET /subjects HTTP/1.1\r\nHos")
        assert call(schema_server, "GET", "/subjects")[0] == 200
    finally:
        for client in idle:
            client.close()


def test_clients_at_once_get_ids_that_are_all_different_and_the_same_for_the_same(
    schema_server: str, served_schemas: Path
) -> None:
    bodies = [(f"s{number % 8}-value", {"schema": record("a", name=f"R{number % 8}")}) for number in range(48)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(
            pool.map(lambda one: call(schema_server, "POST", f"/subjects/{one[0]}/versions", one[1]), bodies)
        )
    assert {status for status, _, _ in answers} == {200}
    given: dict[str, set[int]] = {}
    for (subject, _), (_, answer, _) in zip(bodies, answers, strict=True):
        given.setdefault(subject, set()).add(answer["id"])
    assert sorted(one for ids in given.values() for one in ids) == list(range(1, 9))
    assert len(SchemaDirectory(served_schemas).subjects()) == 8


def test_two_servers_of_one_folder_agree(served_schemas: Path) -> None:
    with served(served_schemas) as one, served(served_schemas) as other:
        fields = "abcdefgh"

        def grow(url: str) -> list[int]:
            path = f"/subjects/{SUBJECT}/versions"
            return [call(url, "POST", path, {"schema": record(*fields[:n])})[1]["id"] for n in range(1, len(fields))]

        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(grow, (one, other))
        assert first == second == sorted(set(first))
        for url in (one, other):
            assert call(url, "GET", f"/subjects/{SUBJECT}/versions")[1] == list(range(1, len(fields)))


def test_reading_goes_on_while_the_folder_is_locked(
    schema_server: str, served_schemas: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker_bridge.contracts.folder_files.LOCK_WITHIN_S", 0.5)
    with locked(served_schemas), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(call, schema_server, "POST", f"/subjects/{SUBJECT}/versions", {"schema": record("a")})
        assert call(schema_server, "GET", "/subjects")[:2] == (200, [])
        status, answer, _ = waiting.result(DEADLINE_S)
    assert (status, answer["error_code"]) == (500, 50002)
    assert call(schema_server, "POST", f"/subjects/{SUBJECT}/versions", {"schema": record("a")})[0] == 200


def test_a_folder_that_cannot_be_written_is_said(schema_server: str, served_schemas: Path) -> None:
    (served_schemas / SUBJECT).write_text("a file is where the folder should be")
    status, answer, _ = call(schema_server, "POST", f"/subjects/{SUBJECT}/versions", {"schema": record("a")})
    assert (status, answer["error_code"]) == (500, 50001)
    assert str(served_schemas) not in json.dumps(answer) or "folder" in answer["message"]
    assert (served_schemas / "ids.jsonl").read_text() == ""


def test_a_defect_of_ours_is_an_answer_too(schema_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(ServedFolder, "directory", broken)
    status, answer, _ = call(schema_server, "GET", "/subjects")
    assert (status, answer["error_code"]) == (500, 50001)
    assert "secret" not in answer["message"]


def test_it_ends_though_clients_hold_connections(served_schemas: Path) -> None:
    with served(served_schemas) as url:
        clients = [raw(url) for _ in range(3)]
        clients[1].sendall(b"GET /subjects HTTP/1.1\r\nHost: x\r\n\r\n")
        assert clients[1].recv(100).startswith(b"HTTP/1.1 200")
        clients[2].sendall(b"POST /subjects/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        began = time.monotonic()
    assert time.monotonic() - began < DEADLINE_S
    for client in clients:
        client.close()
    with pytest.raises(ConnectionRefusedError):
        raw(url)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


async def test_where_it_cannot_listen(served_schemas: Path, taken_port: int) -> None:
    api = RegistryApi(ServedFolder(served_schemas))
    with pytest.raises(PortTakenError, match="another program"):
        await SchemaServer(f"127.0.0.1:{taken_port}", api).start()
    with pytest.raises(ConfigError, match="cannot listen there"):
        await SchemaServer("192.0.2.1:0", api).start()
    assert SchemaServer("[::1]:0", api).url == "http://[::1]:0"
    server = SchemaServer("127.0.0.1:0", api)
    try:
        await server.start()
        assert (await asyncio.to_thread(call, server.url, "GET", "/subjects"))[0] == 200
    finally:
        await server.stop()
        await server.stop()
