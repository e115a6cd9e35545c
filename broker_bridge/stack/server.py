"""What the stack's servers have in common: launch, wait until they answer, stop, and the levers for fault tests."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from broker_bridge.errors import PortTakenError, StackError
from broker_bridge.stack.ports import is_free
from broker_bridge.stack.processes import ProcessIdentity, ServerProcess, log_tail, wait_until

PORT_CONFLICT = "Address already in use"


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What every server of one stack shares.

    `tied_to` is the process whose end is also the servers' end; None lets them live on. `on_change` is called
    after each launch and stop, so that the state file never lags behind the processes.
    """

    tied_to: ProcessIdentity | None
    boot_deadline_s: float
    on_change: Callable[[], None]


class Server(ABC):
    """One server process with its port and folder."""

    stop_grace_s: float = 15.0

    def __init__(self, *, name: str, port: int, folder: Path, surroundings: Surroundings) -> None:
        self.name = name
        self.port = port
        self.folder = folder
        self.surroundings = surroundings
        self.process = ServerProcess(name, folder.parent / f"{folder.name}.log")

    @abstractmethod
    def prepare(self) -> None:
        """Write what the server reads at start."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """The program and its arguments."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether this very server, not a stranger on its port, answers as it should."""

    @property
    def is_running(self) -> bool:
        """Whether the process is there (it may still be booting, or be stopped by SIGSTOP)."""
        return self.process.is_running

    @property
    def pid(self) -> int | None:
        return self.process.identity.pid if self.process.identity is not None else None

    def start(self) -> None:
        """Launch it and return once it answers. Raises StackError, PortTakenError."""
        self.launch()
        self.wait_ready()
        self.let_go()

    def launch(self) -> None:
        """Start the process without waiting for its answer."""
        if not is_free(self.port):
            raise port_taken(self.name, self.port)
        self.prepare()
        self.process.launch(self.command(), cwd=self.folder, tied_to=self.surroundings.tied_to)
        self.surroundings.on_change()

    def wait_ready(self) -> None:
        """Until the server answers. Raises StackError with the end of its log when it dies or stays silent."""
        limit_s = self.surroundings.boot_deadline_s
        settled = wait_until(lambda: not self.is_running or self.answers(), limit_s)
        if not self.is_running:
            if PORT_CONFLICT in log_tail(self.process.log_path, lines=200):
                raise port_taken(self.name, self.port)
            raise self.process.failure("ended while starting")
        if not settled:
            raise self.process.failure(f"did not answer on 127.0.0.1:{self.port} within {limit_s:g} s")

    def let_go(self) -> None:
        """A server that answers and is tied to nobody may outlive this process."""
        self.process.release()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after `stop_grace_s`; returns when the process is gone."""
        self.process.stop(self.stop_grace_s)
        self.surroundings.on_change()

    def restart(self) -> None:
        """Stop it if it runs, start it on the same port with the same data, wait until it answers."""
        self.stop()
        self.start()

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Send a signal to the server process: SIGKILL is a crash, SIGSTOP and SIGCONT a pause.

        Raises StackError when there is no such process.
        """
        if not self.process.kill(signum):
            detail = f"{self.name} is not running, so it cannot get {signal.Signals(signum).name}"
            raise StackError(detail, remedy="start it first")


def port_taken(name: str, port: int) -> PortTakenError:
    return PortTakenError(
        f"{name} cannot listen: another program has this port",
        where=f"127.0.0.1:{port}",
        remedy=f"end it (ss -ltnp 'sport = :{port}' names it) or choose another port",
    )
