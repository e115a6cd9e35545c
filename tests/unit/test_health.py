"""The health server over real HTTP on free ports."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest

from broker_bridge.errors import ConfigError, PortTakenError
from broker_bridge.observability.metrics import WorkerMetrics
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
