"""Servers are started, recognised and ended as exactly those processes, and end with whom they are tied to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker_bridge.errors import StackError
from broker_bridge.stack.guard import LINUX
from broker_bridge.stack.processes import (
    ProcessIdentity,
    ServerProcess,
    identify,
    this_process,
    thread_states,
    wait_until,
)

SLEEPER = ["sleep", "300"]
DEADLINE_S = 20.0


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(SLEEPER) as process:
        yield process
        process.kill()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    made = ServerProcess("sleeper", tmp_path / "sleeper.log")
    yield made
    made.stop(grace_s=5)


def gone(identity: ProcessIdentity) -> bool:
    return identity.wait_gone(DEADLINE_S)


def test_a_process_is_known_by_pid_and_start(sleeper: subprocess.Popen[bytes]) -> None:
    identity = identify(sleeper.pid)
    assert identity is not None
    assert identity.is_alive
    assert identity.send(signal.SIGTERM)
    assert sleeper.wait(DEADLINE_S) == -signal.SIGTERM
    assert not identity.is_alive
    assert not identity.send(signal.SIGTERM)


def test_a_recycled_pid_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    earlier_holder = ProcessIdentity(sleeper.pid, "another-boot:12345")
    assert not earlier_holder.is_alive
    assert not earlier_holder.send(signal.SIGKILL)
    assert sleeper.poll() is None


def test_a_zombie_counts_as_gone() -> None:
    with subprocess.Popen(SLEEPER) as process:
        identity = identify(process.pid)
        assert identity is not None
        process.send_signal(signal.SIGKILL)  # nobody has waited for it yet
        assert gone(identity)


def test_nobody_has_this_pid() -> None:
    assert identify(2**22 + 1) is None


def test_launch_stop_and_launch_again_keeps_the_log_before(server: ServerProcess, tmp_path: Path) -> None:
    first = server.launch(["sh", "-c", "echo one; exec sleep 300"], cwd=tmp_path, tied_to=this_process())
    assert wait_until(lambda: "one" in server.log_path.read_text(), DEADLINE_S)
    server.stop(grace_s=5)
    assert gone(first)
    second = server.launch(["sh", "-c", "echo two; exec sleep 300"], cwd=tmp_path, tied_to=this_process())
    assert second != first
    assert wait_until(lambda: server.log_path.read_text() == "two\n", DEADLINE_S)
    assert (tmp_path / "sleeper.log.1").read_text() == "one\n"


def test_stop_ends_a_server_that_ignores_sigterm(server: ServerProcess, tmp_path: Path) -> None:
    stubborn = server.launch(
        ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"], cwd=tmp_path, tied_to=this_process()
    )
    assert wait_until(lambda: "up" in server.log_path.read_text(), DEADLINE_S)
    server.stop(grace_s=0.2)
    assert not stubborn.is_alive


def test_stop_ends_a_paused_server_without_waiting_for_the_deadline(server: ServerProcess, tmp_path: Path) -> None:
    paused = server.launch(SLEEPER, cwd=tmp_path, tied_to=this_process())
    assert server.kill(signal.SIGSTOP)
    server.stop(grace_s=DEADLINE_S)
    assert not paused.is_alive


THREADS = """
import threading
for _ in range(20):
    threading.Thread(target=threading.Event().wait).start()
busy = threading.Thread(target=lambda: [None for _ in iter(int, 1)])
busy.start()
print("up", flush=True)
"""


@pytest.mark.skipif(not LINUX, reason="only /proc tells the state of a thread")
def test_a_pause_has_begun_for_every_thread_when_kill_returns(server: ServerProcess, tmp_path: Path) -> None:
    identity = server.launch([sys.executable, "-c", THREADS], cwd=tmp_path, tied_to=this_process())
    assert wait_until(lambda: "up" in server.log_path.read_text(), DEADLINE_S)
    assert not thread_states(identity.pid) <= {"T"}
    assert server.kill(signal.SIGSTOP)
    assert thread_states(identity.pid) == {"T"}


def test_kill_reaches_the_server_itself(server: ServerProcess, tmp_path: Path) -> None:
    identity = server.launch(SLEEPER, cwd=tmp_path, tied_to=this_process())
    assert server.kill()
    assert not identity.is_alive
    assert not server.is_running
    assert not server.kill()


def test_a_program_that_is_not_there(server: ServerProcess, tmp_path: Path) -> None:
    with pytest.raises(StackError, match="did not start") as caught:
        server.launch(["/no/such/program"], cwd=tmp_path, tied_to=this_process())
    assert "/no/such/program" in caught.value.detail
    assert caught.value.where == str(server.log_path)


GUARD = """
import os, sys
from broker_bridge.stack import guard
from broker_bridge.stack.processes import this_process
me = this_process()
options = ["--parent", str(me.pid), "--parent-started", me.started, "--pid-fd", sys.argv[1]]
os.execv(sys.executable, [sys.executable, guard.__file__, *options, *sys.argv[2:]])
"""


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "booting"])
def test_a_server_whose_pid_nobody_took_is_ended(tied: bool, tmp_path: Path) -> None:
    """Its parent was interrupted between starting the guard and reading the pid: nobody else knows the server."""
    pid_file = tmp_path / "pid"
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    server = ["sh", "-c", f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 300"]
    options = ["--tied", "--"] if tied else ["--"]
    command = [sys.executable, "-c", GUARD, str(write_fd), *options, *server]
    with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(write_fd,)) as watching:
        os.close(write_fd)
        assert wait_until(pid_file.exists, DEADLINE_S)
        identity = identify(int(pid_file.read_text()))
        assert identity is not None
        try:
            watching.send_signal(signal.SIGTERM)
            assert gone(identity)
        finally:
            identity.send(signal.SIGKILL)
    assert watching.returncode not in (0, -signal.SIGTERM), "it ended after its server"


PARENT = """
import sys
from pathlib import Path
from broker_bridge.stack.processes import ServerProcess, this_process
folder, mode = Path(sys.argv[1]), sys.argv[2]
server = ServerProcess("sleeper", folder / "sleeper.log")
identity = server.launch(["sleep", "300"], cwd=folder, tied_to=this_process() if mode == "tied" else None)
if mode == "released":
    server.release()
print(identity.pid, server._guard.pid if server._guard else 0, flush=True)
sys.stdin.read()
"""


def start_parent(folder: Path, mode: str, cleanup: ExitStack) -> tuple[subprocess.Popen[str], ProcessIdentity, int]:
    """A process that starts a server, and that server, which the test ends in any case."""
    parent = cleanup.enter_context(
        subprocess.Popen(
            [sys.executable, "-c", PARENT, str(folder), mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )
    cleanup.callback(parent.kill)
    assert parent.stdout is not None
    pid, guard_pid = (int(word) for word in parent.stdout.readline().split())
    server = identify(pid)
    assert server is not None
    cleanup.callback(server.send, signal.SIGKILL)
    return parent, server, guard_pid


@pytest.mark.parametrize("mode", ["tied", "booting"])
def test_the_server_dies_with_its_parent_even_by_sigkill(mode: str, tmp_path: Path) -> None:
    with ExitStack() as cleanup:
        parent, server, _ = start_parent(tmp_path, mode, cleanup)
        parent.kill()
        assert gone(server)


def test_a_tied_server_dies_with_its_guard(tmp_path: Path) -> None:
    with ExitStack() as cleanup:
        _, server, guard_pid = start_parent(tmp_path, "tied", cleanup)
        os.kill(guard_pid, signal.SIGKILL)
        assert gone(server)


def test_a_released_server_lives_on(tmp_path: Path) -> None:
    with ExitStack() as cleanup:
        parent, server, guard_pid = start_parent(tmp_path, "released", cleanup)
        assert guard_pid == 0, "the guard has left"
        parent.kill()
        parent.wait(DEADLINE_S)
        assert server.is_alive
