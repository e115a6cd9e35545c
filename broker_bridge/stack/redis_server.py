"""The Redis of a local stack: appends to disk, never evicts, listens on loopback only."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from broker_bridge.stack.server import Server, Surroundings

ANSWER_TIMEOUT_S = 1.0
LARGEST_ANSWER_BYTES = 100_000

SETTINGS = """\
bind 127.0.0.1
port {port}
dir {folder}
daemonize no
save ""
appendonly yes
appendfsync everysec
# Claims must not vanish when memory is short: refuse the write instead.
maxmemory-policy noeviction
"""


class RedisServer(Server):
    """`locate` finds the redis-server program, and is asked only when the server really starts."""

    def __init__(self, *, port: int, folder: Path, locate: Callable[[], Path], surroundings: Surroundings) -> None:
        super().__init__(name="Redis", port=port, folder=folder, surroundings=surroundings)
        self._locate = locate

    def run_by(self, locate: Callable[[], Path]) -> None:
        """Which program starts from now on; one that runs already goes on."""
        self._locate = locate

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def config_path(self) -> Path:
        return self.folder / "redis.conf"

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config_path.write_text(SETTINGS.format(port=self.port, folder=quoted(self.folder)), encoding="utf-8")

    def command(self) -> Sequence[str]:
        return [str(self._locate()), str(self.config_path)]

    def answers(self) -> bool:
        """PONG, and from our process: a stranger's Redis on this port would say PONG too."""
        if not call(self.port, "PING").startswith(b"+PONG"):
            return False  # -LOADING: it still reads its file
        return f"process_id:{self.pid}\r\n".encode() in call(self.port, "INFO server")


def call(port: int, command: str) -> bytes:
    """The raw reply to one inline command, or nothing when there is none."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_TIMEOUT_S) as connection:
            connection.sendall(command.encode("ascii") + b"\r\nQUIT\r\n")
            reply = bytearray()
            while len(reply) < LARGEST_ANSWER_BYTES and (part := connection.recv(65_536)):
                reply += part
            return bytes(reply)
    except OSError:
        return b""


def server_version(program: Path) -> str:
    """What this redis-server says its version is, or "unknown"."""
    try:
        said = subprocess.run(  # noqa: S603 - the program just located
            [program, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    found = re.search(r"v=([\d.]+)", said)
    return found.group(1) if found else "unknown"


def quoted(path: Path) -> str:
    """A path as redis.conf takes it, blanks and quotes included."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
