"""Programs that the demo starts: each under the stack's guard, so that none outlives the demo, however that ends.

The guard ends its program when the demo is gone, be it by SIGKILL; if the guard itself is killed, the kernel does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from broker_bridge.stack import guard
from broker_bridge.stack.processes import ProcessIdentity, identify, log_tail, read_pid, this_process, wait_until

GONE_WITHIN_S = 10.0

# A compiler driver that is ended leaves its compilers at work: end the whole session instead.
WITH_ITS_CHILDREN = ('trap "trap - TERM; kill -TERM 0" TERM; "$@" & wait $!', "sh")


class ChildError(Exception):
    """A program of the demo did not do what it was started for; the text says which, and where its log is."""


class Child:
    """One running program. Its standard output goes to ``out``, its standard error to ``log`` (both appended)."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        out: Path | None = None,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        has_children: bool = False,
    ) -> None:
        self.name, self.log, self.out = name, log, out or log
        self.command = list(command)
        self.started_s = time.monotonic()
        started = ["sh", "-c", *WITH_ITS_CHILDREN, *command] if has_children else self.command
        self._guard, self.identity = self._launch(started, cwd, environment)

    def _launch(
        self, command: Sequence[str], cwd: Path | None, environment: Mapping[str, str] | None
    ) -> tuple[subprocess.Popen[bytes], ProcessIdentity | None]:
        parent = this_process()
        read_fd, write_fd = os.pipe()
        options = ["--parent", str(parent.pid), "--parent-started", parent.started, "--pid-fd", str(write_fd), "--tied"]
        try:
            with self.out.open("ab") as out, self.log.open("ab") as log:
                guarding = subprocess.Popen(
                    [sys.executable, "-I", "-S", guard.__file__, *options, "--", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=log,
                    cwd=cwd,
                    env={**own_environment(), **(environment or {})},
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
        except BaseException:  # Ctrl-C just now: nobody else knows of it
            guarding.terminate()
            guarding.wait(GONE_WITHIN_S)
            raise
        # A short program may have ended already; then its status is all there is to know.
        return guarding, identify(pid) if pid is not None else None

    @property
    def pid(self) -> int | None:
        return self.identity.pid if self.identity is not None else None

    @property
    def status(self) -> int | None:
        """Its exit status once it has ended; a signal as 128 plus its number, as shells say it."""
        return self._guard.poll()

    @property
    def is_running(self) -> bool:
        return self.status is None

    def kill(self) -> None:
        """SIGKILL: what a crash, the kernel's memory killer or a lost machine looks like."""
        if self.identity is not None:
            self.identity.send(signal.SIGKILL)
            self.identity.wait_gone(GONE_WITHIN_S)
        self._guard.wait(GONE_WITHIN_S)

    def ask_to_end(self) -> None:
        """SIGTERM, without waiting."""
        if self.identity is not None:
            self.identity.send(signal.SIGTERM)

    def stop(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL to what is still there ``grace_s`` seconds later."""
        self.ask_to_end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(grace_s)
        if self.is_running:
            self.kill()

    def wait(self, timeout_s: float) -> int:
        """Its exit status. Raises ``ChildError`` when it has not ended after ``timeout_s`` seconds."""
        if not wait_until(lambda: not self.is_running, timeout_s):
            raise ChildError(f"{self.name} did not end within {timeout_s:g} s; its log: {self.log}")
        return self._guard.wait()

    def failure(self, what: str) -> ChildError:
        """The error for this program, with the end of its log."""
        tail = log_tail(self.log, lines=8)
        return ChildError(f"{self.name} {what}; its log {self.log} " + (f"ends with:\n{tail}" if tail else "is empty"))


def own_environment() -> dict[str, str]:
    """This process's environment without settings of the bridge: the demo's programs follow its own bridge.toml."""
    cache = "BROKER_BRIDGE_CACHE"
    return {name: text for name, text in os.environ.items() if name == cache or not name.startswith("BROKER_BRIDGE_")}


class Children:
    """All programs of one run, to be ended together."""

    def __init__(self) -> None:
        self._all: list[Child] = []

    def start(self, name: str, command: Sequence[str], **options: Any) -> Child:
        """Start a program; the options are those of ``Child``."""
        child = Child(name, command, **options)
        self._all.append(child)
        return child

    def stop_all(self, grace_s: float) -> None:
        """SIGTERM to all at once, SIGKILL to those that are still there ``grace_s`` seconds later."""
        for child in self._all:
            if child.is_running:
                child.ask_to_end()
        deadline = time.monotonic() + grace_s
        for child in self._all:
            if child.is_running:
                child.stop(max(0.1, deadline - time.monotonic()))


def run(child: Child, timeout_s: float) -> str:
    """What a program that is to end by itself printed. Raises ``ChildError`` for a status other than 0."""
    if (status := child.wait(timeout_s)) != 0:
        raise child.failure(f"ended with status {status}")
    return child.out.read_text(encoding="utf-8")


def last_json(text: str) -> dict[str, Any]:
    """The last line that is a JSON object. Raises ``ChildError`` where there is none."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            with contextlib.suppress(ValueError):
                found: dict[str, Any] = json.loads(line)
                return found
    raise ChildError(f"no JSON in what it printed: {text[-200:]!r}")
