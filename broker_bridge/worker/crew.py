"""Several worker processes of one configuration on one machine: started, kept running, ended together.

The processes know nothing of each other: Kafka's group shares the partitions out among them. Each is started by exec,
not forked from this one, and its standard input is a pipe that ends with this process (``parent_watch``).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from broker_bridge.core.restart_policy import EndAll, Past, RestartPolicy, after_end, worst_status
from broker_bridge.errors import WorkerProcessError
from broker_bridge.observability import events
from broker_bridge.observability.logging import get_logger

log = get_logger(__name__)

PATIENCE_S = 10.0
"""How long a process may take to end beyond the drain and the grace of its routes."""

CANNOT_START = 126
"""What a shell says of a program that it cannot start."""


class MemberState(enum.StrEnum):
    """Where a process of the crew is."""

    RUNNING = "running"
    WAITING = "starts again soon"
    ENDED = "ended"


@dataclass
class Member:
    """One process and its successors, by number from 1. ``health`` is the socket on which it answers health, kept open
    over its lives; ``began_ms`` is when the present life began, by the loop's clock."""

    number: int
    health: socket.socket | None = None
    process: asyncio.subprocess.Process | None = None
    state: MemberState = MemberState.ENDED
    began_ms: int = 0
    restarts: int = 0
    past: Past = field(default_factory=Past)

    def ask_to_end(self, wanted: signal.Signals = signal.SIGTERM) -> None:
        """Signal its process, where it has one."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(wanted)


Launch = Callable[[Member], Awaitable[asyncio.subprocess.Process]]
"""Starts the process of a member."""


class Crew:
    """``members`` at work until ``stop``, or until one has ended in a way that ends all (``core.restart_policy``).

    ``patience_s`` is how long one may take to end once it is asked; then it is killed.
    """

    def __init__(
        self,
        members: Sequence[Member],
        launch: Launch,
        *,
        patience_s: float,
        policy: RestartPolicy | None = None,
    ) -> None:
        self.members = list(members)
        self._launch = launch
        self._patience_s = patience_s
        self._policy = policy or RestartPolicy()
        self._stopping = asyncio.Event()
        self._final: int | None = None
        self._gave_up: str | None = None

    @property
    def stopping(self) -> bool:
        """Whether it was asked to end, or ends because of one of its processes."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Ask every process for a drain. May be called from a signal handler, and more than once."""
        self._stopping.set()
        for member in self.members:
            member.ask_to_end()

    async def run(self) -> int:
        """Until all processes have ended. Returns the status to end with; raises ``WorkerProcessError`` where one kept
        ending."""
        keeping = [asyncio.create_task(self._keep(member)) for member in self.members]
        killing = asyncio.create_task(self._kill_the_late())
        try:
            statuses = await asyncio.gather(*keeping)
        finally:
            killing.cancel()
            for member in self.members:
                member.ask_to_end(signal.SIGKILL)
        if self._gave_up is not None:
            raise WorkerProcessError(self._gave_up)
        return self._final if self._final is not None else worst_status(statuses)

    async def _keep(self, member: Member) -> int:
        """One process after the other. Returns how the last one ended, 0 where that was before all were to end."""
        while not self._stopping.is_set():
            status = await self._live(member)
            if self._stopping.is_set():
                return status
            await self._after(member, status)
        return 0

    async def _live(self, member: Member) -> int:
        """One life, from start to end."""
        member.began_ms = _now_ms()
        try:
            member.process = process = await self._launch(member)
        except OSError as error:  # no memory or no process to be had: as if it had ended at once
            log.error(events.PROCESS_ENDED, process=member.number, reason=f"cannot start: {error}")
            return CANNOT_START
        member.state = MemberState.RUNNING
        log.info(events.PROCESS_STARTED, process=member.number, pid=process.pid)
        if self._stopping.is_set():
            member.ask_to_end()
        status = await process.wait()
        member.state = MemberState.ENDED
        return status

    async def _after(self, member: Member, status: int) -> None:
        """What follows when it ended without being asked to."""
        lived_ms = _now_ms() - member.began_ms
        decision = after_end(self._policy, member.past, status=status, lived_ms=lived_ms)
        how = ended_how(status)
        if isinstance(decision, EndAll):
            log.error(events.PROCESS_ENDED, process=member.number, reason=how, duration_ms=lived_ms)
            self._final = decision.status
            if decision.status is None:
                times = self._policy.most_short_lives
                self._gave_up = f"worker process {member.number} ended early {times} times in a row, at last {how}"
            self.stop()
            return
        log.warning(
            events.PROCESS_ENDED, process=member.number, reason=how, duration_ms=lived_ms, delay_ms=decision.after_ms
        )
        member.past, member.state = decision.past, MemberState.WAITING
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), decision.after_ms / 1000)
        if not self._stopping.is_set():
            member.restarts += 1

    async def _kill_the_late(self) -> None:
        """SIGKILL to what has not ended in time; nothing is lost by it that Kafka does not hand out again."""
        await self._stopping.wait()
        await asyncio.sleep(self._patience_s)
        for member in self.members:
            if member.process is not None and member.process.returncode is None:
                log.error(events.PROCESS_KILLED, process=member.number)
                member.ask_to_end(signal.SIGKILL)


def _now_ms() -> int:
    return int(asyncio.get_running_loop().time() * 1000)


def ended_how(status: int) -> str:
    """``by SIGKILL``, or ``with status 70``."""
    if status >= 0:
        return f"with status {status}"
    try:
        return f"by {signal.Signals(-status).name}"
    except ValueError:
        return f"by signal {-status}"
