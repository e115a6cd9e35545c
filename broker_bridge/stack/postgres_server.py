"""A PostgreSQL for tests of the inbox and the outbox: a data folder of its own, loopback only, never run as root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from broker_bridge.errors import StackError, ToolMissingError
from broker_bridge.stack.prerequisites import Progress, can_install, install_packages
from broker_bridge.stack.processes import wait_until
from broker_bridge.stack.server import Server, Surroundings

DEBIAN_PROGRAMS = Path("/usr/lib/postgresql")
PACKAGE = "postgresql"
SYSTEM_USER = "postgres"
"""Who runs the server where this process is root, as which PostgreSQL refuses to run."""
SUPERUSER = "bridge"
ANSWER_TIMEOUT_S = 1.0
INITDB_DEADLINE_S = 120
STOP_S = 10.0

SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
max_connections = 100
# Everything lives in the data folder, and goes with it.
dynamic_shared_memory_type = mmap
log_min_messages = warning
"""


class PostgresServer(Server):
    """`programs` is the folder of ``postgres`` and ``initdb``. As root, ``folder`` must be reachable by postgres."""

    def __init__(self, *, port: int, folder: Path, programs: Path, surroundings: Surroundings) -> None:
        super().__init__(name="PostgreSQL", port=port, folder=folder, surroundings=surroundings)
        self._programs = programs

    @property
    def url(self) -> str:
        return self.database_url("postgres")

    def database_url(self, name: str) -> str:
        """The URL of one database."""
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/{name}"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def prepare(self) -> None:
        """Make the cluster, once, and write its settings."""
        if not (self.data / "PG_VERSION").exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            if os.geteuid() == 0:
                owner = pwd.getpwnam(SYSTEM_USER)
                os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            self._initdb()
        settings = self.data / "postgresql.auto.conf"
        settings.write_text(SETTINGS.format(port=self.port), encoding="utf-8")

    def _initdb(self) -> None:
        command = [
            *as_system_user(),
            str(self._programs / "initdb"),
            *("--pgdata", str(self.data), "--username", SUPERUSER, "--auth", "trust"),
            *("--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"),
        ]
        done = subprocess.run(  # noqa: S603 - programs just located
            command, cwd=self.folder, capture_output=True, text=True, timeout=INITDB_DEADLINE_S, check=False
        )
        if done.returncode != 0:
            raise StackError(f"initdb failed:\n{(done.stdout + done.stderr)[-2000:]}", where=str(self.data))

    def command(self) -> Sequence[str]:
        return [*as_system_user(tied=True), str(self._programs / "postgres"), "-D", str(self.data)]

    def answers(self) -> bool:
        """It accepts a login, and the process is ours by the lock file in its folder."""
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except OSError:
            return False
        return bool(lines) and lines[0] == str(self.pid) and accepts_login(self.port)

    def stop(self) -> None:
        """SIGINT first, which ends it though clients are connected; SIGTERM would wait for them."""
        identity = self.process.identity
        if identity is not None and identity.send(signal.SIGINT):
            identity.send(signal.SIGCONT)
            wait_until(lambda: not identity.is_alive, STOP_S)
        super().stop()


def as_system_user(*, tied: bool = False) -> list[str]:
    """What goes before a command that root must not run. A change of user clears the kernel's promise to end the
    process with its guard, so it is asked for anew."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ToolMissingError("not found on PATH: setpriv (runs PostgreSQL as another user than root)")
    promise = ["--pdeathsig", "KILL"] if tied else []
    return [setpriv, f"--reuid={SYSTEM_USER}", f"--regid={SYSTEM_USER}", "--clear-groups", *promise, "--"]


def accepts_login(port: int) -> bool:
    """Whether a server there answers the start of a session with anything but "still starting up"."""
    body = struct.pack("!I", 196_608) + f"user\0{SUPERUSER}\0database\0postgres\0\0".encode()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_TIMEOUT_S) as connection:
            connection.sendall(struct.pack("!I", len(body) + 4) + body)
            return connection.recv(1) == b"R"
    except OSError:
        return False


def find_postgres(*, install: bool, progress: Progress = lambda _line: None) -> Path:
    """The folder of the server's programs, installing them if asked to. Raises ToolMissingError, StackError."""
    found = _programs()
    if found is None and install and can_install():
        install_packages([PACKAGE], progress=progress)
        found = _programs()
    if found is None:
        sudo = "" if os.geteuid() == 0 else "sudo "
        raise ToolMissingError(
            "not found: postgres and initdb (the database of inbox and outbox tests)",
            remedy=f"install it: {sudo}apt-get update && {sudo}apt-get install -y {PACKAGE}",
        )
    return found


def _programs() -> Path | None:
    """From PATH, else the newest that Debian has installed (it puts them beside PATH)."""
    on_path = shutil.which("initdb")
    if on_path is not None and Path(on_path).resolve().with_name("postgres").exists():
        return Path(on_path).resolve().parent
    versions = [path.parent for path in DEBIAN_PROGRAMS.glob("*/bin/initdb")]
    return max(versions, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0, default=None)
