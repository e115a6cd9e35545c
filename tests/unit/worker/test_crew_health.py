"""Health of several worker processes at one address, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker_bridge.observability.metrics import WorkerMetrics
from broker_bridge.worker import crew_health
from broker_bridge.worker.crew import Crew, Member, MemberState
from broker_bridge.worker.crew_health import CrewHealth
from broker_bridge.worker.health import HealthReport, HealthServer

WELL = HealthReport(ok=True, checks={"payments": "running"})
ILL = HealthReport(ok=False, checks={"payments": "joining"})


class World:
    """Two members: each has a socket, and a health server on it as its process would."""

    def __init__(self) -> None:
        self.members = [self.member(number) for number in (1, 2)]
        self.crew = Crew(self.members, self.launch, patience_s=1.0)
        self.health = CrewHealth("127.0.0.1:0", self.crew)
        self.live, self.ready = [WELL, WELL], [WELL, WELL]
        self.metrics = [WorkerMetrics(), WorkerMetrics()]
        self.servers: list[HealthServer] = []

    @staticmethod
    def member(number: int) -> Member:
        made = Member(number, socket.create_server(("127.0.0.1", 0)))
        made.state, made.began_ms = MemberState.RUNNING, int(asyncio.get_running_loop().time() * 1000)
        return made

    async def launch(self, _: Member) -> asyncio.subprocess.Process:
        raise AssertionError("nothing is started here")

    async def serve(self, index: int) -> None:
        server = HealthServer(
            "127.0.0.1:0",
            live=lambda: self.live[index],
            ready=lambda: self.ready[index],
            metrics=self.metrics[index],
            details=lambda: {"payments": {"in_flight": index}},
        )
        shared = self.members[index].health
        assert shared is not None
        server.adopt(shared.dup())
        await server.start()
        assert server.port == shared.getsockname()[1]
        self.servers.append(server)

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(self.health.url + path) as answer:
            return answer.status, await answer.text()

    async def report(self, path: str) -> tuple[int, dict[str, str]]:
        status, body = await self.get(path)
        return status, json.loads(body)["checks"]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.health.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(made.health.stop)
        yield made
        for server in made.servers:
            await server.stop()
        for member in made.members:
            assert member.health is not None
            member.health.close()


@pytest.fixture
async def both(world: World) -> World:
    for index in (0, 1):
        await world.serve(index)
    return world


async def test_it_is_well_when_all_are(both: World) -> None:
    assert await both.report("/health/live") == (200, {"1": "answers", "2": "answers"})
    assert await both.report("/health/ready") == (200, {"1.payments": "running", "2.payments": "running"})


async def test_one_that_is_not_ready_is_named(both: World) -> None:
    both.ready[1] = ILL
    assert await both.report("/health/ready") == (503, {"1.payments": "running", "2.payments": "joining"})
    assert (await both.report("/health/live"))[0] == 200
    both.live[0] = ILL
    assert await both.report("/health/live") == (503, {"1": "failing", "2": "answers"})


async def test_one_that_is_about_to_be_started_again_is_not_ready_and_no_reason_to_restart_all(both: World) -> None:
    both.members[1].state = MemberState.WAITING
    assert await both.report("/health/live") == (200, {"1": "answers", "2": "starts again soon"})
    assert await both.report("/health/ready") == (503, {"1.payments": "running", "2": "starts again soon"})


async def test_a_new_one_has_time_to_answer_and_one_that_fell_silent_has_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_health, "ANSWER_S", 0.2)
    await world.health.stop()
    await world.health.start()
    await world.serve(0)
    assert await world.report("/health/live") == (200, {"1": "answers", "2": "starting"})
    assert (await world.report("/health/ready"))[1]["2"] == "does not answer"
    world.members[1].began_ms -= int(crew_health.START_S * 1000)
    assert await world.report("/health/live") == (503, {"1": "answers", "2": "does not answer"})
    await world.servers.pop().stop()
    assert (await world.report("/health/live"))[1]["1"] == "does not answer", "it had answered in this life before"


async def test_while_all_end_they_are_alive_and_not_ready(both: World) -> None:
    both.crew.stop()
    assert await both.report("/health/live") == (200, {"processes": "ending"})
    assert (await both.report("/health/ready"))[0] == 503


async def test_metrics_and_routes_of_all_by_process(both: World) -> None:
    both.metrics[0].polled("payments", 7)
    both.metrics[1].polled("payments", 9)
    both.members[1].restarts = 3
    status, page = await both.get("/metrics")
    found = {
        (sample.name, sample.labels.get("process")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    assert status == 200
    assert [found["broker_bridge_records_polled_total", number] for number in "12"] == [7, 9]
    assert [found["broker_bridge_process_up", number] for number in "12"] == [1, 1]
    assert [found["broker_bridge_process_restarts_total", number] for number in "12"] == [0, 3]
    status, page = await both.get("/routes")
    assert json.loads(page) == {"1": {"payments": {"in_flight": 0}}, "2": {"payments": {"in_flight": 1}}}
    both.members[0].state = MemberState.WAITING
    assert json.loads((await both.get("/routes"))[1])["1"] is None
    assert (await both.get("/nowhere"))[0] == 404
