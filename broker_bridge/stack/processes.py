"""Server processes of the local stack: start, recognise, signal and end exactly those.

A pid alone is no name: once its process is gone the kernel gives it to the next one.

    stack down              kernel
    reads pid 4711
                            4711 (Redis) ends; a stranger's editor starts as 4711
    kill(4711)              the editor dies

So a server is known by its pid *and* its start time, and a signal goes through a pidfd that is opened first and
compared after: a pidfd keeps meaning the process it was opened for.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from broker_bridge.errors import StackError
from broker_bridge.stack import guard

POLL_S = 0.02
LAUNCH_DEADLINE_S = 20.0
SIGNAL_DEADLINE_S = 10.0
STOPPED_STATES = frozenset("TtZX")


@dataclass(frozen=True)
class ProcessIdentity:
    """A process for good: its pid and what the system says of its start."""

    pid: int
    started: str

    @property
    def is_alive(self) -> bool:
        return guard.process_start(self.pid) == self.started

    def send(self, signum: int) -> bool:
        """Signal this very process; False when it is gone."""
        if not hasattr(os, "pidfd_open"):
            if self.is_alive:
                os.kill(self.pid, signum)
                return True
            return False
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.is_alive:
                return False
            signal.pidfd_send_signal(pidfd, signum)
        except ProcessLookupError:
            return False
        finally:
            os.close(pidfd)
        return True

    def wait_stopped(self, timeout_s: float) -> bool:
        """Whether every thread stopped (after SIGSTOP) within `timeout_s` seconds; True where the system cannot tell.

        The signal returns to its sender at once, and a thread that is on a processor goes on until it is interrupted:

            sender                  a server's network thread
            SIGSTOP, returns        (running)
            sends a request         answers it
                                    stops
        """
        return not guard.LINUX or wait_until(lambda: thread_states(self.pid) <= STOPPED_STATES, timeout_s)

    def wait_gone(self, timeout_s: float) -> bool:
        """Whether the process ended within `timeout_s` seconds."""
        return wait_until(lambda: not self.is_alive, timeout_s)


def thread_states(pid: int) -> set[str]:
    """The letters that /proc gives for the threads of a process; empty when it is gone."""
    states: set[str] = set()
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError, IndexError):
            states.add(stat.read_text(errors="replace").rpartition(")")[2].split()[0])
    return states


def identify(pid: int) -> ProcessIdentity | None:
    """The process that has this pid now, or None."""
    started = guard.process_start(pid)
    return None if started is None else ProcessIdentity(pid, started)


def this_process() -> ProcessIdentity:
    return ProcessIdentity(os.getpid(), str(guard.process_start(os.getpid())))


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Ask until the condition holds or `timeout_s` has passed; says which."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True


class ServerProcess:
    """One server of the stack, started here or found in the state file of an earlier run."""

    def __init__(self, name: str, log_path: Path, *, identity: ProcessIdentity | None = None) -> None:
        self.name = name
        self.log_path = log_path
        self.identity = identity
        self._guard: subprocess.Popen[bytes] | None = None

    def launch(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        tied_to: ProcessIdentity | None,
        environment: Mapping[str, str] | None = None,
    ) -> ProcessIdentity:
        """Start the server under a guard; its output goes to the log file. Raises StackError.

        It ends with the process `tied_to`; without one it ends with this process until `release`. `environment` is
        this process's own unless given.
        """
        keep_previous(self.log_path)
        tied, parent = tied_to is not None, tied_to or this_process()
        read_fd, write_fd = os.pipe()
        options = ["--parent", str(parent.pid), "--parent-started", parent.started, "--pid-fd", str(write_fd)]
        if tied:
            options.append("--tied")
        try:
            with self.log_path.open("ab") as log:
                self._guard = subprocess.Popen(  # noqa: S603 - our own program and the server's path
                    [sys.executable, "-I", "-S", guard.__file__, *options, "--", *command],
                    stdin=subprocess.DEVNULL if tied else subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    cwd=cwd,
                    env=environment,
                    pass_fds=(write_fd,),
                    start_new_session=True,
                )
        except BaseException:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        try:
            pid = read_pid(read_fd)
            self.identity = identify(pid) if pid is not None else None
            if self.identity is None:
                raise self.failure("did not start")
        except BaseException:  # Ctrl-C too: a server whose pid is not known here is still the guard's to end
            if self._guard is not None:
                self._guard.terminate()
            self._reap_guard()
            raise
        return self.identity

    def release(self) -> None:
        """Let a server that is not tied outlive this process."""
        if self._guard is None or self._guard.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):
            self._guard.stdin.write(b"!")
            self._guard.stdin.flush()
        self._reap_guard()

    @property
    def is_running(self) -> bool:
        return self.identity is not None and self.identity.is_alive

    @property
    def exit_status(self) -> int | None:
        """How it ended, a signal as 128 plus its number; None while it runs or where it was not launched here."""
        return self._guard.poll() if self._guard is not None else None

    def kill(self, signum: int = signal.SIGKILL) -> bool:
        """Send a signal to the server itself; wait until a SIGKILL has ended it, or a SIGSTOP stopped all of it."""
        if self.identity is None:
            return False
        sent = self.identity.send(signum)
        if sent and signum == signal.SIGKILL:
            self.identity.wait_gone(SIGNAL_DEADLINE_S)
            self._reap_guard()
        if sent and signum == signal.SIGSTOP:
            self.identity.wait_stopped(SIGNAL_DEADLINE_S)
        return sent

    def ask_to_end(self) -> bool:
        """SIGTERM, without waiting; False when there is no such process."""
        return self.identity is not None and self.identity.send(signal.SIGTERM)

    def wait_ended(self, timeout_s: float) -> bool:
        """Whether it ended within `timeout_s` seconds; its `exit_status` is known then."""
        if self._guard is None:
            return self.identity is None or self.identity.wait_gone(timeout_s)
        try:
            self._guard.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL to what is still there `grace_s` seconds later."""
        if self.identity is not None and self.identity.send(signal.SIGTERM):
            self.identity.send(signal.SIGCONT)  # a stopped process would keep the SIGTERM pending
            if not self.identity.wait_gone(grace_s):
                self.identity.send(signal.SIGKILL)
                self.identity.wait_gone(SIGNAL_DEADLINE_S)
        self._reap_guard()

    def failure(self, what: str) -> StackError:
        """The error for this server, with the end of its log."""
        lines = log_tail(self.log_path)
        return StackError(
            f"{self.name} {what}" + (f"; its log ends with:\n{lines}" if lines else "; its log is empty"),
            where=str(self.log_path),
            remedy=f"read {self.log_path}, then run: broker-bridge stack up",
        )

    def _reap_guard(self) -> None:
        """The guard leaves when its server has ended or was let go; wait for that."""
        if self._guard is None:
            return
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        try:
            self._guard.wait(timeout=guard.GRACE_S + 5.0)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        self._guard = None


def read_pid(read_fd: int) -> int | None:
    """The pid that the guard writes; None when it ended, or said nothing in time."""
    with os.fdopen(read_fd, "rb") as pipe:
        if not select.select([pipe], [], [], LAUNCH_DEADLINE_S)[0]:
            return None
        line = pipe.readline().strip()
    return int(line) if line else None


def keep_previous(log_path: Path) -> None:
    """A fresh log for each start; the one before stays as `<name>.1`."""
    if log_path.exists():
        log_path.replace(log_path.with_name(log_path.name + ".1"))


def log_tail(log_path: Path, lines: int = 12) -> str:
    """The last lines of a server's log, or nothing when it has none."""
    try:
        with log_path.open("rb") as log:
            log.seek(max(0, log_path.stat().st_size - 16_384))
            text = log.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
