"""One fault, from a quiet start to a verdict: warm up → inject → hold → heal → recover → drain → judge."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker_bridge.bootstrap import open_store, open_transport
from broker_bridge.chaos.effects import BUILT_IN_HANDLER, EFFECTS_VARIABLE, WEATHER_VARIABLE, WORK_VARIABLE
from broker_bridge.chaos.evidence import Evidence, Sent, effects_of, read_deliveries, read_effects
from broker_bridge.chaos.faults.base import Fault
from broker_bridge.chaos.http_sink import HttpSink
from broker_bridge.chaos.lag_watcher import LagWatcher
from broker_bridge.chaos.load import Load
from broker_bridge.chaos.private_config import Privacy, private_config
from broker_bridge.chaos.servers import Servers
from broker_bridge.chaos.verdict import Terms, Verdict, judge
from broker_bridge.chaos.weather import WeatherFile
from broker_bridge.chaos.workers import WorkerOrders, WorkerPool, worker_environment
from broker_bridge.chaos.workload import Orders, Workload
from broker_bridge.chaos.world import World
from broker_bridge.config import BridgeConfig
from broker_bridge.core.audit import Books
from broker_bridge.core.dead_letter import read_dead_letter
from broker_bridge.core.reconcile import BookEntry
from broker_bridge.errors import StackError
from broker_bridge.message import Position
from broker_bridge.replay.audit import Auditor
from broker_bridge.replay.route import ReplayRoute
from broker_bridge.worker.topics import ensure_topics

PARTITIONS = 4
WARM_UP_WITHIN_S = 45.0
TAIL_S = 2.0
LOAD_ENDS_WITHIN_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all experiments of a run share. ``config_path`` is the user's; ``workload`` makes a fresh supply for a seed
    and a share of poison; ``cwd`` is where handlers are imported from."""

    config: BridgeConfig
    config_path: Path
    route: str
    workload: Callable[[int, float], Workload]
    cwd: Path
    seed: int = 1
    per_s: int = 150
    hold_s: float = 8.0
    warm_up: int = 150
    workers: int = 2
    work_ms: float = 5.0
    recover_within_s: float = 60.0
    with_sink: bool = False
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Result:
    """What came of one fault. ``skipped`` says why it was not run; then there is no verdict."""

    fault: str
    title: str
    rows: tuple[int, ...]
    verdict: Verdict | None = None
    skipped: str = ""
    recovered_s: float | None = None
    took_s: float = 0.0
    deaths: int = 0
    facts: dict[str, int] = field(default_factory=dict)
    died_by_itself: list[str] = field(default_factory=list)


class Experiment:
    """One fault on running servers. ``number`` tells it from the others of its run."""

    def __init__(
        self, plan: Plan, servers: Servers, fault: Fault, number: int, folder: Path, say: Callable[[str], None]
    ) -> None:
        self._plan, self._servers, self._fault, self._say = plan, servers, fault, say
        self._folder = folder / f"{number:02d}-{fault.name}"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._suffix = f".x{number}"
        self._weather = WeatherFile(self._folder / "weather.json")
        self._effects_path = self._folder / "effects.ndjson"
        self._deliveries_path = self._folder / "deliveries.ndjson"
        self._replication = len(servers.brokers)
        self._swallowed_before = servers.swallowed_bytes

    def cannot_run(self) -> str:
        """Why this fault cannot be played on this route; empty where it can."""
        route = self._plan.config.route(self._plan.route)
        assert route is not None
        is_built_in = getattr(route.target, "handler", "") == BUILT_IN_HANDLER
        if self._fault.built_in_only and not is_built_in:
            return "it is played by messages of the built-in workload"
        if self._fault.needs_own_target and not (is_built_in or self._plan.with_sink):
            return "it is played by the target; for an HTTP target --sink stands in for it"
        return self._fault.unfit(self._plan.config, route)

    def run(self) -> Result:
        """Run it. Raises what makes a verdict impossible: the servers, or the harness itself, failed."""
        fault = self._fault
        result = Result(fault.name, fault.title, fault.rows)
        started = time.monotonic()
        if fault.needs_replica:
            self._servers.add_replica()
        sink = self._start_sink()
        try:
            self._run(result, sink)
        finally:
            if sink is not None:
                sink.stop()
            result.took_s = time.monotonic() - started
        return result

    def _start_sink(self) -> HttpSink | None:
        if not self._plan.with_sink:
            return None
        sink = HttpSink(effects=self._effects_path, weather=self._weather)
        sink.start()
        return sink

    def _privacy(self, bootstrap: str, sink: HttpSink | None) -> Privacy:
        return Privacy(
            route=self._plan.route, bootstrap=bootstrap, redis_url=self._servers.redis_url, suffix=self._suffix,
            sink_url=sink.url if sink else None, wait_replicas=self._fault.wait_replicas,
        )  # fmt: skip

    def _run(self, result: Result, sink: HttpSink | None) -> None:
        plan, servers = self._plan, self._servers
        config = private_config(plan.config, self._privacy(servers.bootstrap, sink))
        route = config.routes[0]
        asyncio.run(make_topics(config, self._replication))
        workload = plan.workload(plan.seed, self._fault.poison_share)
        pool = WorkerPool(self._folder, self._orders(sink), expects_deaths=self._fault.kills_workers)
        lag = LagWatcher(config, route)
        world = World(
            servers=servers, config=config, route=route, folder=self._folder, pool=pool, lag=lag,
            weather_file=self._weather, sink=sink, orders=workload if isinstance(workload, Orders) else None,
            hold_s=plan.hold_s,
        )  # fmt: skip
        load = Load(config, route, workload, per_s=plan.per_s)
        lag.start()
        try:
            for _ in range(max(plan.workers, self._fault.workers)):
                pool.add()
            load.start()
            sent = self._story(world, load, result)
        finally:
            load.abandon()
            pool.end_all()
            lag.finish()
        result.deaths = sum(h.what == "died" for h in pool.happenings)
        result.died_by_itself = pool.died_by_itself
        evidence = self._evidence(world, sent)
        result.verdict = judge(evidence, self._terms(world), recovered_s=result.recovered_s)
        self._fault.review(world, evidence, result.verdict)
        result.facts = self._facts(world)
        for death in pool.died_by_itself:
            result.verdict.object("a worker ended by itself", death)

    def _orders(self, sink: HttpSink | None) -> WorkerOrders:
        variables = {
            EFFECTS_VARIABLE: str(self._effects_path),
            WEATHER_VARIABLE: str(self._folder / "weather.json"),
            WORK_VARIABLE: str(self._plan.work_ms),
            **self._fault.environment(self._folder),
            **self._plan.environment,
        }
        return WorkerOrders(
            config=self._plan.config_path,
            privacy=self._privacy(self._servers.relayed_bootstrap, sink).as_json(),
            deliveries=self._deliveries_path,
            replication=self._replication,
            environment=worker_environment(**variables),
            cwd=self._plan.cwd,
        )

    def _story(self, world: World, load: Load, result: Result) -> list[Sent]:
        fault, say = self._fault, self._say
        wanted = min(len(world.pool.workers), PARTITIONS)
        warm = world.wait_until(
            lambda: self._handled() >= self._plan.warm_up and world.pool.joined >= wanted, within_s=WARM_UP_WITHIN_S
        )
        if not warm:
            raise StackError(
                f"only {self._handled()} messages were handled before the fault, wanted {self._plan.warm_up}",
                where=str(self._folder), remedy="read the workers' logs there",
            )  # fmt: skip
        say(f"{fault.name}: warm, {load.acknowledged} sent; now: {fault.title}")
        try:
            fault.begin(world)
            world.run_for(fault.hold_s(world))
        finally:
            fault.end(world)
        healed_s = time.monotonic()
        looks = world.lag.looks
        world.wait_until(lambda: world.lag.looks > looks + 1, within_s=10)
        ends = world.lag.source_ends()
        say(f"{fault.name}: healed; waiting until what was sent before is settled")
        if world.wait_until(lambda: world.lag.has_passed(ends), within_s=self._plan.recover_within_s):
            result.recovered_s = time.monotonic() - healed_s
        world.run_for(TAIL_S)
        sent = load.finish(LOAD_ENDS_WITHIN_S)
        looks = world.lag.looks
        world.wait_until(lambda: world.lag.looks > looks + 1, within_s=10)
        drained = world.wait_until(world.lag.has_caught_up, within_s=self._plan.recover_within_s)
        if not drained:
            say(f"{fault.name}: not drained")
        return sent

    def _handled(self) -> int:
        path = self._effects_path if self._effects_path.exists() else self._deliveries_path
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def _evidence(self, world: World, sent: list[Sent]) -> Evidence:
        entries: list[BookEntry] = []
        books, letters = asyncio.run(audit(world.config, entries))
        deliveries = read_deliveries(self._deliveries_path)
        self._keep("sent.ndjson", [one._asdict() for one in sent])
        self._keep("books.ndjson", [one._asdict() for one in entries])
        self._keep("happenings.ndjson", [one._asdict() for one in (*world.happenings, *world.pool.happenings)])
        has_own = world.has_own_target
        return Evidence(
            sent=sent,
            deliveries=deliveries,
            effects=read_effects(self._effects_path) if has_own else effects_of(deliveries),
            entries=entries,
            happenings=[*world.happenings, *world.pool.happenings],
            group_moved_back=list(world.lag.moved_back),
            books_add_up=books.adds_up,
            letters=letters,
            unaccounted={one.position: one.why for one in books.unaccounted},
        )

    def _keep(self, name: str, rows: list[dict[str, Any]]) -> None:
        """For whoever wants to look closer: the verdict is made of these files and the two logs."""
        lines = (json.dumps(row, default=_plain) + "\n" for row in rows)
        (self._folder / name).write_text("".join(lines), encoding="utf-8")

    def _terms(self, world: World) -> Terms:
        fault, route = self._fault, world.route
        return Terms(
            lease_ms=route.claims.lease_ms,
            max_attempts=route.retry.in_place + len(route.retry.lanes_ms),
            keeps_order=route.order != "none",
            dead_kinds=fault.dead_kinds,
            may_die=fault.may_die if world.has_own_target else fault.may_die | {"drawn", "given"},
            bounds_attempts=fault.bounds_attempts,
            recover_within_s=self._plan.recover_within_s,
        )

    def _facts(self, world: World) -> dict[str, int]:
        events = (
            "claim_taken_over", "claim_stale", "lease_lost", "commit_failed", "redis_lost", "kafka_lost",
            "route_paused", "breaker_opened", "partitions_revoked",
        )  # fmt: skip
        facts = {event: world.pool.logged(event) for event in events}
        facts["relay_swallowed_bytes"] = world.servers.swallowed_bytes - self._swallowed_before
        facts |= world.facts
        return {name: count for name, count in facts.items() if count or name in world.facts}


def _plain(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


async def make_topics(config: BridgeConfig, replication: int) -> None:
    """The topics and lanes of the experiment."""
    admin = open_transport(config).admin()
    await admin.start()
    try:
        await ensure_topics(admin, config.routes, partitions=PARTITIONS, replication=replication)
    finally:
        await admin.stop()


async def audit(config: BridgeConfig, entries: list[BookEntry]) -> tuple[Books, set[Position]]:
    """Close the books of the experiment's route, and find every dead letter."""
    reader, store = open_transport(config).reader(), open_store(config)
    await reader.start()
    try:
        await store.start()
        auditor = Auditor(reader=reader, store=store, route=ReplayRoute.of(config.routes[0]))
        report = await auditor.audit(on_entry=entries.append)
        bounds = await reader.offsets([config.routes[0].lane_names.dead_letter])
        start, end = ({tp: both[which] for tp, both in bounds.items()} for which in (0, 1))
        letters = {read_dead_letter(one).origin async for batch in reader.read(start, end) for one in batch}
        return report.books, letters
    finally:
        await store.stop()
        await reader.stop()
