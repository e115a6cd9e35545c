"""The health server over real HTTP on free ports."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest

from broker_bridge.errors import ConfigError, PortTakenError
from broker_bridge.observability.metrics import WorkerMetrics
from broker_bridge.worker import health_site
from broker_bridge.worker.health import HealthReport, HealthServer

CANARY = "canary-0815"
WELL = HealthReport(ok=True, checks={"kafka": "ok", "payments": "4 partitions"})


@dataclass
class Worker:
    """What the server is told, to be changed by a test."""

    live: HealthReport = WELL
    ready: HealthReport = WELL
    details: dict[str, object] = field(default_factory=lambda: {"payments": {"in_flight": 3}})
    metrics: WorkerMetrics = field(default_factory=WorkerMetrics)

    def server(self, listen: str = "127.0.0.1:0") -> HealthServer:
        return HealthServer(
            listen,
            live=lambda: self.live,
            ready=lambda: self.ready,
            metrics=self.metrics,
            details=lambda: self.details,
        )


@pytest.fixture
async def worker() -> Worker:
    return Worker()


@pytest.fixture
async def server(worker: Worker) -> AsyncIterator[HealthServer]:
    server = worker.server()
    await server.start()
    yield server
    await server.stop()


async def get(server: HealthServer, path: str, method: str = "GET") -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.request(method, server.url + path) as answer:
        return answer.status, answer.headers["Content-Type"], await answer.text()


async def test_live_and_ready_say_what_each_check_says(server: HealthServer, worker: Worker) -> None:
    status, kind, body = await get(server, "/health/ready")
    assert (status, kind) == (200, "application/json")
    assert json.loads(body) == {"status": "ok", "checks": {"kafka": "ok", "payments": "4 partitions"}}
    worker.ready = HealthReport(ok=False, checks={"kafka": "no answer"})
    status, _, body = await get(server, "/health/ready")
    assert (status, json.loads(body)) == (503, {"status": "failing", "checks": {"kafka": "no answer"}})
    assert (await get(server, "/health/live"))[0] == 200
    worker.live = HealthReport(ok=False)
    assert (await get(server, "/health/live"))[0] == 503


async def test_metrics_and_routes(server: HealthServer, worker: Worker) -> None:
    worker.metrics.polled("payments", 7)
    status, kind, body = await get(server, "/metrics")
    assert status == 200
    assert kind.startswith("text/plain; version=")
    assert 'broker_bridge_records_polled_total{route="payments"} 7.0' in body
    assert json.loads((await get(server, "/routes"))[2]) == {"payments": {"in_flight": 3}}


async def test_whatever_else_is_asked_is_a_problem_document(server: HealthServer) -> None:
    status, kind, body = await get(server, "/nowhere")
    assert (status, kind) == (404, "application/problem+json")
    assert json.loads(body)["code"] == "not_found"
    assert (await get(server, "/health/live", "POST"))[:2] == (405, "application/problem+json")


async def test_a_check_that_raises_is_a_failure_and_keeps_its_words(worker: Worker) -> None:
    def broken() -> HealthReport:
        raise RuntimeError(CANARY)

    server = HealthServer("127.0.0.1:0", live=broken, ready=lambda: worker.ready, metrics=worker.metrics)
    await server.start()
    try:
        status, _, body = await get(server, "/health/live")
        assert status == 500
        assert CANARY not in body
        assert (await get(server, "/health/ready"))[0] == 200
    finally:
        await server.stop()


async def test_port_zero_takes_a_free_one_and_stop_gives_it_back(worker: Worker) -> None:
    first, second = worker.server(), worker.server()
    await first.start()
    await second.start()
    assert 0 < first.port != second.port > 0
    port = first.port
    await first.stop()
    await first.stop()
    again = worker.server(f"127.0.0.1:{port}")
    await again.start()
    assert (await get(again, "/health/live"))[0] == 200
    await again.stop()
    await second.stop()


async def test_a_taken_port_is_told_with_the_remedy(worker: Worker) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(PortTakenError) as caught:
            await worker.server(listen).start()
    assert caught.value.where == f"[health] listen = {listen}"
    assert caught.value.detail == "another program listens there"
    assert 'listen = "127.0.0.1:0"' in caught.value.remedy


async def test_an_address_of_another_machine_is_told(worker: Worker) -> None:
    with pytest.raises(ConfigError) as caught:
        await worker.server("192.0.2.1:0").start()
    assert caught.value.detail.startswith("cannot listen there: ")
    assert caught.value.where == "[health] listen = 192.0.2.1:0"


async def talk(server: HealthServer, sent: bytes) -> bytes:
    """Everything that comes back until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(sent)
        return await asyncio.wait_for(reader.read(-1), 30)
    finally:
        writer.close()


LIVE = b"GET /health/live?why=probe HTTP/1.1\r\nHost: h\r\n%s\r\n"
LAST = LIVE % b"Connection: close\r\n"


async def test_requests_on_one_connection_are_answered_in_their_order(server: HealthServer) -> None:
    answers = (await talk(server, LIVE % b"" + LAST.replace(b"GET", b"HEAD") + LAST)).split(b"HTTP/1.1 ")[1:]
    assert [answer[:6] for answer in answers] == [b"200 OK", b"200 OK"], "after the one that says close comes none"
    whole, head = answers
    assert b"\r\nConnection: keep-alive\r\n" in whole
    assert b"\r\nConnection: close\r\n" in head
    assert whole.partition(b"\r\n\r\n")[2].startswith(b'{"status": "ok"')
    assert head.endswith(b"\r\n\r\n")
    length = len(whole.partition(b"\r\n\r\n")[2])
    assert f"\r\nContent-Length: {length}\r\n".encode() in whole
    assert f"\r\nContent-Length: {length}\r\n".encode() in head


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /health/live HTTP/9\r\n\r\n", b"400"),
        (b"GET /\xff HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /health/live HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", b"400"),
        (b"GET /health/live HTTP/1.0\r\n\r\n", b"200"),
        (LIVE % b"content-length: 900\r\n" + LAST, b"200"),
        (LIVE % b"Transfer-Encoding : chunked\r\n" + LAST, b"200"),
        (b"POST /metrics HTTP/1.1\r\nConnection:x, close\r\n\r\n", b"405"),
        (b"GET //health/live HTTP/1.1\r\nConnection: close\r\n\r\n", b"404"),
        (b"GET /health", b""),
        (b"", b""),
    ],
)
async def test_whatever_is_sent_one_answer_at_most_and_the_connection_ends(
    server: HealthServer, monkeypatch: pytest.MonkeyPatch, sent: bytes, status: bytes
) -> None:
    monkeypatch.setattr(health_site, "IDLE_S", 0.2)
    answer = await talk(server, sent)
    assert answer.count(b"HTTP/1.1 ") == bool(status)
    assert answer[9:12] == status
    assert (await get(server, "/health/live"))[0] == 200


async def test_silent_connections_do_not_keep_probes_out(server: HealthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_site, "MOST_CONNECTIONS", 3)
    silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
    try:
        assert (await get(server, "/health/live"))[0] == 200
        assert await asyncio.wait_for(silent[0][0].read(), 30) == b"", "the one that was idle longest had to go"
        silent[2][1].write(LAST)
        assert (await asyncio.wait_for(silent[2][0].read(), 30)).startswith(b"HTTP/1.1 200 OK")
    finally:
        for _, writer in silent:
            writer.close()


async def test_stop_does_not_wait_for_silent_connections_nor_for_a_slow_check(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def slow() -> health_site.Answer:
        begun.set()
        await asyncio.sleep(3_600)
        raise AssertionError("never")

    monkeypatch.setattr(health_site, "STOP_WITHIN_S", 0.1)
    site = health_site.HealthSite("127.0.0.1:0", {"/slow": slow})
    await site.start()
    silent = await asyncio.open_connection("127.0.0.1", site.port)
    asking = asyncio.create_task(health_site.ask(("127.0.0.1", site.port), "/slow"))
    await begun.wait()
    await asyncio.wait_for(site.stop(), 30)
    assert await asyncio.wait_for(silent[0].read(), 30) == b""
    assert await asyncio.wait_for(asking, 30) is None
    silent[1].close()
    assert await health_site.ask(("127.0.0.1", site.port), "/slow") is None


async def test_asking_a_site_gives_its_answer(server: HealthServer, worker: Worker) -> None:
    worker.metrics.polled("payments", 7)
    answer = await health_site.ask(("127.0.0.1", server.port), "/metrics")
    assert answer is not None
    assert answer.status == 200
    assert b'records_polled_total{route="payments"} 7.0' in answer.body
