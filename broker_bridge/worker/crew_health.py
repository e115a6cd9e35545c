"""Health of several worker processes at one address: what all of them answer, by the number of the process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from broker_bridge.observability import names
from broker_bridge.observability.exposition import merged
from broker_bridge.worker.crew import Crew, Member, MemberState
from broker_bridge.worker.health_site import (
    Answer,
    HealthReport,
    HealthSite,
    ask,
    json_answer,
    metrics_answer,
    report_answer,
)

ANSWER_S = 2.0
"""How long a process may take to answer: less than whoever asks here is likely to wait."""

START_S = 30.0
"""How long a new process may take to answer for the first time and still counts as alive."""


class CrewHealth(HealthSite):
    """Serves what a worker's ``HealthServer`` does, for a crew whose members each have a ``health`` socket.

    Live: every process that runs is; one that is about to be started again does not change that, for a restart of all
    would help nobody. Ready: every process runs and is. Metrics have the label ``process``.
    """

    def __init__(self, listen: str, crew: Crew) -> None:
        self._crew = crew
        self._answered: set[tuple[int, int]] = set()
        self._own = CollectorRegistry()
        self._own.register(CrewSeries(crew))
        pages = {
            "/health/live": self._live,
            "/health/ready": self._ready,
            "/metrics": self._metrics,
            "/routes": self._routes,
        }
        super().__init__(listen, pages)

    async def _live(self) -> Answer:
        if self._crew.stopping:
            return report_answer(HealthReport(ok=True, checks={"processes": "ending"}))
        checks: dict[str, str] = {}
        well = True
        for member, answer in await self._ask_all("/health/live"):
            if answer is not None:
                checks[str(member.number)] = "answers" if answer.status == 200 else "failing"
            elif member.state is MemberState.RUNNING:
                checks[str(member.number)] = "starting" if self._may_be_starting(member) else "does not answer"
            else:
                checks[str(member.number)] = member.state.value
            well = well and checks[str(member.number)] not in ("failing", "does not answer")
        return report_answer(HealthReport(ok=well, checks=checks))

    async def _ready(self) -> Answer:
        checks: dict[str, str] = {}
        well = not self._crew.stopping
        for member, answer in await self._ask_all("/health/ready"):
            well = well and answer is not None and answer.status == 200
            if answer is None:
                checks[str(member.number)] = "does not answer" if member.state is MemberState.RUNNING else member.state
            else:
                found = json.loads(answer.body).get("checks", {})
                checks |= {f"{member.number}.{route}": state for route, state in found.items()}
        return report_answer(HealthReport(ok=well, checks=checks))

    async def _metrics(self) -> Answer:
        answers = await self._ask_all("/metrics")
        pages = {str(member.number): answer.body.decode() for member, answer in answers if answer is not None}
        return metrics_answer(merged(pages, label=names.PROCESS).encode() + generate_latest(self._own))

    async def _routes(self) -> Answer:
        answers = await self._ask_all("/routes")
        return json_answer({str(member.number): answer and json.loads(answer.body) for member, answer in answers})

    async def _ask_all(self, path: str) -> list[tuple[Member, Answer | None]]:
        """Every member with its answer, None where there was none in time."""
        answers = await asyncio.gather(*(self._ask(member, path) for member in self._crew.members))
        return list(zip(self._crew.members, answers, strict=True))

    async def _ask(self, member: Member, path: str) -> Answer | None:
        if member.state is not MemberState.RUNNING or member.health is None:
            return None
        life = (member.number, member.began_ms)
        try:
            found = await asyncio.wait_for(ask(member.health.getsockname()[:2], path), ANSWER_S)
        except TimeoutError:
            return None
        if found is not None:
            self._answered.add(life)
        return found

    def _may_be_starting(self, member: Member) -> bool:
        age_s = asyncio.get_running_loop().time() - member.began_ms / 1000
        return (member.number, member.began_ms) not in self._answered and age_s < START_S


class CrewSeries(Collector):
    """What only the parent knows of its processes."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    def collect(self) -> Iterator[Metric]:
        """Asked at each scrape."""
        labels = [names.PROCESS]
        up = GaugeMetricFamily(f"{names.PREFIX}process_up", "1 while the worker process runs.", labels=labels)
        restarts = CounterMetricFamily(
            f"{names.PREFIX}process_restarts", "Times the worker process was started again.", labels=labels
        )
        for member in self._crew.members:
            up.add_metric([str(member.number)], float(member.state is MemberState.RUNNING))
            restarts.add_metric([str(member.number)], member.restarts)
        yield from (up, restarts)
