"""Start one server and end it when the process that asked for it dies.

Run by path with `python -I -S guard.py`, so it imports the standard library only and starts in some 20 ms.

    guard.py --parent PID --parent-started IDENTITY --pid-fd FD [--tied] -- COMMAND …

The guard writes the server's pid to FD and then watches both. If the parent goes, even by SIGKILL, the server
gets SIGTERM and, `GRACE_S` later, SIGKILL. If the guard itself is killed, the kernel ends a tied server
(`PR_SET_PDEATHSIG`; the guard has one thread, and that signal is sent when the *thread* that forked ends).
A server that is not tied is watched only until the parent writes a byte to the guard's standard input: the guard
then leaves, and the server lives on. So a parent that dies in the middle of a boot never leaves one behind.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys

LINUX = os.path.exists("/proc/self/stat")
GRACE_S = 3.0
POLL_S = 0.2
PR_SET_PDEATHSIG = 1
EXIT_CANNOT_START = 126

asked_to_end: list[int] = []
"""Signals that asked the guard to end; it then ends the server first."""


def process_start(pid: int) -> str | None:
    """What tells this process from a later one with the same pid; None if there is none (or only a zombie)."""
    if LINUX:
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
                # The command name may hold spaces and brackets: the fields follow its last one.
                fields = stat.read().rpartition(")")[2].split()
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot:
                boot_id = boot.read().strip()
        except (OSError, IndexError):
            return None
        return None if fields[0] in "ZX" else f"{boot_id}:{fields[19]}"
    answer = subprocess.run(  # noqa: S603 - a fixed command and a number
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or None


def die_with_guard(guard_pid: int) -> None:
    """In the server's process before exec: ask the kernel for SIGKILL when the guard ends."""
    if not LINUX:
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard_pid:  # it ended between fork and prctl: nobody would send the signal
        os.kill(os.getpid(), signal.SIGKILL)


def watch(server: subprocess.Popen[bytes], *, parent: int, parent_started: str, tied: bool) -> int:
    """Until the server ends (its status is returned), it has to be ended, or the parent lets it go."""
    poll = select.poll()
    if hasattr(os, "pidfd_open"):
        for pid in (parent, server.pid):
            # Gone already: the checks below see it in the first round.
            with contextlib.suppress(ProcessLookupError):
                poll.register(os.pidfd_open(pid), select.POLLIN)
    if not tied:
        poll.register(0, select.POLLIN)
    while True:
        status = server.poll()
        if status is not None:
            return status if status >= 0 else 128 - status
        if asked_to_end or process_start(parent) != parent_started:
            return end(server)
        ready = poll.poll(POLL_S * 1000)
        if any(fd == 0 for fd, _ in ready):
            # A byte lets the server go; an end without one means that nobody will ever know of it.
            return 0 if os.read(0, 1) else end(server)


def end(server: subprocess.Popen[bytes]) -> int:
    server.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(GRACE_S)
    server.kill()
    server.wait()
    return 128 + signal.SIGKILL


def main() -> int:
    parser = argparse.ArgumentParser(description="Start a server and end it when its parent dies.")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--parent-started", required=True)
    parser.add_argument("--pid-fd", type=int, required=True)
    parser.add_argument("--tied", action="store_true")
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()
    guard_pid = os.getpid()
    signal.signal(signal.SIGTERM, lambda signum, _frame: asked_to_end.append(signum))
    try:
        server = subprocess.Popen(  # noqa: S603 - the command is what this program is for
            asked.command,
            stdin=subprocess.DEVNULL,
            preexec_fn=(lambda: die_with_guard(guard_pid)) if asked.tied else None,  # noqa: PLW1509 - one thread
            start_new_session=True,
        )
    except OSError as error:
        sys.stderr.write(f"cannot start {asked.command[0]}: {error}\n")
        return EXIT_CANNOT_START
    # Nobody reads when the parent died, or was interrupted, just now; the watch then ends the server.
    with contextlib.suppress(BrokenPipeError):
        os.write(asked.pid_fd, f"{server.pid}\n".encode())
    os.close(asked.pid_fd)
    return watch(server, parent=asked.parent, parent_started=asked.parent_started, tied=asked.tied)


if __name__ == "__main__":
    sys.exit(main())
