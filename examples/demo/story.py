"""The story from beginning to end: each phase does one thing and is timed."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from broker_bridge.stack import LocalStack, StackSpec, commands
from broker_bridge.stack.kafka.jars import cached_jars
from broker_bridge.stack.ports import free_port
from demo.checks import Verdict, run_all
from demo.child import Child, ChildError, Children, last_json, run
from demo.drain import wait_until_drained
from demo.evidence import Evidence
from demo.faults import Fault, Timeline
from demo.gather import gather_evidence
from demo.operator_commands import Operator, short
from demo.places import DEMO, ROOT, SCHEMAS, RunFolder, broker_bridge_command
from demo.run_config import write_run_config
from demo.screen import Screen
from demo.services import (
    BUILDS,
    Payments,
    Program,
    finish_builds,
    missing_toolchains,
    stand_in,
    start_builds,
    start_orders,
)
from demo.settings import Settings
from demo.watching import Watch

TICK_S = 0.1
TOPIC, RESULTS = "orders.placed", "payments.captured"
DEAD_LETTERS = "payments.orders.placed.dlq"
PARTITIONS = 4
FETCH_WITHIN_S = 900.0
JOIN_WITHIN_S = 40.0
DRAIN_WITHIN_S = 180.0
STREAM_SLACK_S = 120.0
PAYMENT_TAKES_MS = 20
AUDITED = ("produced", "completed", "dead", "duplicate", "unaccounted")
STOP_WITHIN_S = 15.0


@dataclass
class Outcome:
    """All that the report tells of."""

    settings: Settings
    languages: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    stream: dict[str, Any] = field(default_factory=dict)
    stream_began_s: float = 0.0
    faults: list[Fault] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    replay: dict[str, Any] = field(default_factory=dict)
    evidence: Evidence | None = None
    verdicts: list[Verdict] = field(default_factory=list)
    watch: Watch | None = None
    load: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def holds(self) -> bool:
        """Whether every comparison was made and came out right."""
        return bool(self.verdicts) and all(verdict.holds for verdict in self.verdicts)


class Story:
    """One run. ``tell`` runs it; ``close`` leaves no process behind, whatever happened before."""

    def __init__(self, settings: Settings, folder: RunFolder, screen: Screen) -> None:
        self.settings, self.folder, self.screen = settings, folder, screen
        self.children = Children()
        self.watch = Watch(folder)
        self.outcome = Outcome(settings, watch=self.watch)
        self.workers: dict[str, Child] = {}
        self.operator = Operator(self.children, folder, screen.command)
        self.stack = LocalStack(
            StackSpec(data_dir=folder.stack, tie_to_parent=True, install=True), progress=self._stack_says
        )

    def tell(self) -> Outcome:
        """Run it. Raises ``ChildError`` or ``BridgeError`` where a part does not do what it should."""
        phase = self.screen.phase
        with phase("build", "Building the services"):
            programs = self._programs()
        with phase("stack", "Starting Kafka and Redis"):
            self._start_stack()
        with phase("start", "Making topics, starting payments and two workers"):
            payments = self._start_services(programs["payments"])
        with phase("stream", self._stream_title()):
            self._stream(programs["orders"], payments)
        with phase("drain", "Draining"):
            self._drain()
        with phase("dead_letters", "Looking at the dead letters"):
            self.operator.run("dlq", "groups")
            self.outcome.groups = self.operator.json("dlq", "groups")["groups"]
        with phase("replay", "Mending payments, replaying what it refused"):
            payments.switch(accept_declined=True)
            self.screen.say("payments accepts the declined cards from now on")
            self.outcome.replay = self.operator.replay_declined()
            self._drain()
        with phase("stop", "Stopping the workers in order"):
            self._stop_workers()
        with phase("audit", "Closing the books"):
            self._audit()
        with phase("compare", "Comparing with what really happened"):
            self._compare()
        return self.outcome

    # --- getting ready -----------------------------------------------------------------------------------------------

    def _stack_says(self, text: str) -> None:
        self.screen.progress(None, text)

    def _programs(self) -> dict[str, Program]:
        """The services, building what is not built; Kafka's jars are fetched meanwhile."""
        if self.settings.stand_ins:
            programs = {build.name: stand_in(build.name) for build in BUILDS}
            absent = list(BUILDS)
        else:
            absent = missing_toolchains()
            programs = {build.name: stand_in(build.name) for build in absent}
            for build in absent:
                self.screen.say(f"{build.tool} is not installed: {build.name} is played by a stand-in in Python")
        started = start_builds(self.children, [build for build in BUILDS if build not in absent], self.folder)
        fetching = self._fetch_kafka()
        began = time.monotonic()
        working = [child for _, child in started] + ([fetching] if fetching is not None else [])
        programs |= finish_builds(started, lambda: self._building(working, began))
        if fetching is not None:
            run(fetching, FETCH_WITHIN_S)
        self.outcome.languages = {name: program.language for name, program in programs.items()}
        return programs

    def _building(self, working: list[Child], began: float) -> None:
        busy = [child.name for child in working if child.is_running]
        if time.monotonic() - began > 1.0:
            self.screen.progress(None, ", ".join(busy))
        time.sleep(TICK_S)

    def _fetch_kafka(self) -> Child | None:
        if cached_jars() is not None:
            return None
        command = [sys.executable, "-P", str(DEMO / "fetch_kafka.py")]
        return self.children.start(
            "fetching Kafka", command, log=self.folder.log("fetch-kafka"), cwd=ROOT, has_children=True
        )

    def _start_stack(self) -> None:
        # A stack that an earlier run was told to keep; nobody else works here, the folder is held.
        commands.down(self.folder.stack, wipe=True, progress=self._stack_says)
        self.stack.start()
        self.outcome.versions = self.stack.status().versions

    def _start_services(self, program: Program) -> Payments:
        payments = Payments(self.children, program, self.folder, free_port(), PAYMENT_TAKES_MS)
        write_run_config(
            DEMO / "bridge.toml",
            self.folder.config,
            bootstrap=self.stack.bootstrap,
            redis_url=self.stack.redis_url,
            target_url=f"{payments.url}/payments",
            schemas=SCHEMAS,
        )
        self.operator.run("worker", "topics", "--create", str(PARTITIONS), shown=False)
        payments.start()
        for name in ("worker-1", "worker-2"):
            self._start_worker(name)
        deadline = time.monotonic() + JOIN_WITHIN_S
        while not all(self.watch.assigned(name) for name in self.workers):
            self._tick("waiting for the workers to share the partitions")
            if time.monotonic() > deadline:
                raise ChildError(
                    f"the workers did not join within {JOIN_WITHIN_S:g} s; see {self.folder.root}/worker-*.log"
                )
        return payments

    def _start_worker(self, name: str) -> None:
        command = [broker_bridge_command(), "worker", "run", "--config", str(self.folder.config)]
        self.workers[name] = self.children.start(name, command, log=self.folder.log(name), cwd=ROOT)

    # --- the stream and its troubles ---------------------------------------------------------------------------------

    def _stream_title(self) -> str:
        troubles = "four failures on the way" if self.settings.faults else "nothing goes wrong"
        return f"Sending {self.settings.count:,} orders, {troubles}"

    def _faults(self, payments: Payments) -> list[Fault]:
        if not self.settings.faults:
            return []
        return [
            Fault("worker", "worker-1 killed (SIGKILL)", 0.15, 3.0, self._kill_worker, self._replace_worker),
            Fault("payments_down", "payments killed (SIGKILL)", 0.35, 4.0, payments.kill, payments.start),
            Fault(
                "payments_slow",
                "payments slow, half its answers errors",
                0.55,
                4.0,
                lambda: payments.switch(latency_ms=400, error_rate=0.5),
                payments.behave,
            ),
            Fault("redis", "Redis stopped and started", 0.75, 2.0, self.stack.redis.stop, self.stack.redis.start),
        ]

    def _kill_worker(self) -> None:
        self.workers.pop("worker-1").kill()

    def _replace_worker(self) -> None:
        self._start_worker("worker-3")
        self.screen.say("worker-3 started in its place, as a supervisor would")

    def _stream(self, program: Program, payments: Payments) -> None:
        self.outcome.stream_began_s = time.time()
        self.outcome.faults = self._faults(payments)
        timeline = Timeline(self.outcome.faults, say=self.screen.say)
        sending = start_orders(
            self.children, program, bootstrap=self.stack.bootstrap, settings=self.settings, folder=self.folder
        )
        records = round(self.settings.count * (1 + self.settings.mix.duplicates))
        deadline = time.monotonic() + records / self.settings.rate + STREAM_SLACK_S
        while sending.is_running or not timeline.is_over:
            self._tick(share=self.watch.sent / records, trouble=timeline.current)
            timeline.tick(self.watch.sent / records)
            if time.monotonic() > deadline:
                raise sending.failure("is far too slow" if sending.is_running else "ended before its stream did")
        printed = run(sending, 1.0)
        self.outcome.stream = last_json(printed)
        if self.outcome.stream["records"] != self.outcome.stream["planned_records"]:
            raise ChildError(f"orders did not send all: {self.outcome.stream}")

    def _tick(self, fact: str = "", *, share: float | None = None, trouble: str = "") -> None:
        """One look at everything, shown."""
        self.watch.look()
        self._workers_live()
        w = self.watch
        facts = f"sent {w.sent:,} · applied {w.effects['applied']:,} · dead {w.events['message_dead_lettered']:,}"
        self.screen.progress(share, fact or (f"{facts} · {trouble}" if trouble else facts))
        time.sleep(TICK_S)

    def _workers_live(self) -> None:
        for worker in self.workers.values():
            if not worker.is_running:
                raise worker.failure(f"ended by itself with status {worker.status}")

    # --- afterwards --------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        def tick(left: int) -> None:
            self.watch.look()
            applied = self.watch.effects["applied"]
            self.screen.progress(None, f"{left:,} records left in the topics · applied {applied:,}")

        waiting = wait_until_drained(self.folder.config, timeout_s=DRAIN_WITHIN_S, tick=tick, alive=self._workers_live)
        asyncio.run(waiting)
        self.watch.look()

    def _stop_workers(self) -> None:
        for worker in self.workers.values():
            worker.ask_to_end()
        for worker in self.workers.values():
            if (status := worker.wait(STOP_WITHIN_S)) != 0:
                raise worker.failure(f"ended with status {status} after SIGTERM, not 0")
        self.workers.clear()
        self.watch.look()

    def _audit(self) -> None:
        arguments = ["audit", "--expect-drained", "--outputs", "--target-log", short(self.folder.effects)]
        _, printed = self.operator.run(*arguments, "--json", shown=False, expect=None)
        self.audit = last_json(printed)
        told = ", ".join(f"{self.audit.get(name, 0):,} {name}" for name in AUDITED)
        balance = "the books balance" if self.audit.get("balanced") else "the books do NOT balance"
        command = shlex.join(["broker-bridge", *arguments, "--json", "--config", short(self.folder.config)])
        self.screen.command(command, f"{balance}: {told}")

    def _compare(self) -> None:
        self.outcome.evidence = asyncio.run(
            gather_evidence(
                bootstrap=self.stack.bootstrap,
                topic=TOPIC,
                dead_letter_topic=DEAD_LETTERS,
                result_topic=RESULTS,
                manifest=self.folder.manifest,
                effects=self.folder.effects,
                schemas=SCHEMAS,
            )
        )
        self.outcome.evidence.audit = self.audit
        self.outcome.evidence.acknowledged = self.outcome.stream["records"]
        self.outcome.verdicts = run_all(self.outcome.evidence)
        self.outcome.load = os.getloadavg()

    # --- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End every process of this run and wait until it is gone."""
        self.children.stop_all(3.0)
        self.stack.stop()

    def keep(self, say: Callable[[str], None]) -> None:
        """After ``close``: start the servers again with their data, not tied to this process."""
        LocalStack.attach(self.folder.stack)  # it is there
        commands.up(StackSpec(data_dir=self.folder.stack), progress=self._stack_says)
        config, stack = short(self.folder.config), short(self.folder.stack)
        say(f"Kafka and Redis are left running. Look around:  broker-bridge dlq list --config {config}")
        say(f"End them:  broker-bridge stack down --wipe --data-dir {stack}")
