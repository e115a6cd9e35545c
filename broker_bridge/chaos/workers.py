"""Worker processes: started, frozen, killed and, as an orchestrator would, started again."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker_bridge.chaos.evidence import Happening, now_ms
from broker_bridge.errors import StackError
from broker_bridge.stack.processes import ServerProcess, log_tail, this_process

RESTART_AFTER_S = 0.5
GRACE_S = 30.0


@dataclass(frozen=True, kw_only=True)
class WorkerOrders:
    """What every worker of an experiment is told."""

    config: Path
    privacy: Mapping[str, Any]
    deliveries: Path
    replication: int
    environment: Mapping[str, str]
    cwd: Path


class WorkerProcess:
    """One worker, and the process it is at the moment."""

    def __init__(self, number: int, folder: Path, orders: WorkerOrders, *, clock_shift_s: float = 0.0) -> None:
        self.number = number
        self._orders = orders
        self._written = folder / f"worker-{number}.json"
        self._written.write_text(
            json.dumps(
                {
                    "config": str(orders.config),
                    "privacy": dict(orders.privacy),
                    "deliveries": str(orders.deliveries),
                    "replication": orders.replication,
                    "clock_shift_s": clock_shift_s,
                }
            ),
            encoding="utf-8",
        )
        self._folder = folder
        self._starts = 0
        self.process: ServerProcess = self._new_process()
        self.wanted = False
        self.is_frozen = False
        self.ended_s: float | None = None

    def _new_process(self) -> ServerProcess:
        return ServerProcess(f"worker {self.number}", self._folder / f"worker-{self.number}-{self._starts}.log")

    def start(self) -> None:
        """Start it (again)."""
        self._starts += 1
        self.process = self._new_process()
        self.wanted, self.is_frozen, self.ended_s = True, False, None
        command = [sys.executable, "-m", "broker_bridge.chaos.observed_worker", str(self._written)]
        self.process.launch(command, cwd=self._orders.cwd, tied_to=this_process(), environment=self._orders.environment)

    @property
    def pid(self) -> int:
        """Of the process it is, or was last."""
        return self.process.identity.pid if self.process.identity is not None else 0

    @property
    def is_running(self) -> bool:
        """Whether that process is there."""
        return self.process.is_running

    @property
    def has_joined(self) -> bool:
        """Whether its log tells of partitions."""
        return b"partitions_assigned" in self.process.log_path.read_bytes()


@dataclass
class WorkerPool:
    """The workers of one experiment. ``tend`` has to be called often: it restarts what died."""

    folder: Path
    orders: WorkerOrders
    workers: list[WorkerProcess] = field(default_factory=list)
    happenings: list[Happening] = field(default_factory=list)
    restarts: bool = True
    died_by_itself: list[str] = field(default_factory=list)
    expects_deaths: bool = False
    _frozen_since: dict[int, float] = field(default_factory=dict)

    def add(self, *, clock_shift_s: float = 0.0) -> WorkerProcess:
        """One more worker, started."""
        worker = WorkerProcess(len(self.workers), self.folder, self.orders, clock_shift_s=clock_shift_s)
        self.workers.append(worker)
        worker.start()
        return worker

    def tend(self) -> None:
        """Note who ended unasked, and start them again after a moment."""
        for worker in self.workers:
            if not worker.wanted or worker.is_running:
                continue
            if worker.ended_s is None:
                worker.ended_s = time.monotonic()
                self._note_death(worker)
                worker.process.wait_ended(GRACE_S)  # its status is known a moment after it is gone
                if not self.expects_deaths:
                    self.died_by_itself.append(self._how(worker))
            elif self.restarts and time.monotonic() - worker.ended_s >= RESTART_AFTER_S:
                worker.start()

    def kill(self, worker: WorkerProcess) -> None:
        """SIGKILL; it is started again by ``tend``."""
        self.thaw(worker)
        pid_known_dead = not worker.is_running
        worker.process.kill(signal.SIGKILL)
        if not pid_known_dead:
            self._note_death(worker)
        worker.ended_s = time.monotonic()

    def freeze(self, worker: WorkerProcess) -> None:
        """SIGSTOP."""
        self._frozen_since[worker.number] = now_ms()
        worker.is_frozen = True
        worker.process.kill(signal.SIGSTOP)

    def thaw(self, worker: WorkerProcess) -> None:
        """SIGCONT, where it is frozen."""
        if worker.is_frozen:
            worker.process.kill(signal.SIGCONT)
            worker.is_frozen = False
            self.happenings.append(Happening("paused", self._frozen_since[worker.number], now_ms(), worker.pid))

    def end(self, worker: WorkerProcess) -> int:
        """SIGTERM and wait for the drain; the exit status. It stays away until started."""
        worker.wanted = False
        self.thaw(worker)
        worker.process.ask_to_end()
        if not worker.process.wait_ended(GRACE_S):
            worker.process.kill(signal.SIGKILL)
            self._note_death(worker)
            return 128 + signal.SIGKILL
        return worker.process.exit_status or 0

    def end_all(self) -> list[int]:
        """SIGTERM to all at once; their exit statuses."""
        for worker in self.workers:
            self.thaw(worker)
            if worker.is_running:
                worker.process.ask_to_end()
        return [self.end(worker) for worker in self.workers if worker.wanted]

    @property
    def running(self) -> Sequence[WorkerProcess]:
        """Those that are there and not frozen."""
        return [worker for worker in self.workers if worker.is_running and not worker.is_frozen]

    @property
    def joined(self) -> int:
        """How many workers have been given partitions."""
        return sum(worker.has_joined for worker in self.workers)

    def logged(self, event: str) -> int:
        """How many lines of the workers' logs tell of an event."""
        wanted = f'"event":"{event}"'
        found = 0
        for path in self.folder.glob("worker-*.log"):
            found += path.read_text(encoding="utf-8", errors="replace").replace('": "', '":"').count(wanted)
        return found

    def _note_death(self, worker: WorkerProcess) -> None:
        at_ms = now_ms()
        self.happenings.append(Happening("died", at_ms, at_ms, worker.pid))

    def _how(self, worker: WorkerProcess) -> str:
        tail = log_tail(worker.process.log_path, lines=2)
        return f"worker {worker.number} ended by itself with status {worker.process.exit_status}: {tail[-600:]}"


def wait_for(holds: Callable[[], bool], *, within_s: float, what: str) -> None:
    """Wait for a condition. Raises ``StackError`` where it does not come true."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise StackError(f"{what}: not within {within_s:g} s")
        time.sleep(0.05)


def worker_environment(**variables: str) -> dict[str, str]:
    """This process's environment and more."""
    return {**os.environ, **variables}
