"""Loopback ports for servers that may be stopped and started again.

A port from the kernel's ephemeral range is a trap here: while the server is down, a client that keeps connecting
to it may be given that very port as its *own* and connect to itself, and the server then finds it taken. So free
ports are drawn from below that range.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

LOWEST = 12_000
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
DEFAULT_EPHEMERAL_START = 32_768


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As Kafka and Redis do: connections in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port(*, avoid: frozenset[int] = frozenset()) -> int:
    """A port nobody listens on, below the ephemeral range; another process may still take it first."""
    highest = max(ephemeral_start(), LOWEST + 1_000)
    for _ in range(1_000):
        port = random.randrange(LOWEST, highest)  # noqa: S311 - spreads stacks apart, guards nothing
        if port not in avoid and is_free(port):
            return port
    raise OSError(f"no free port found between {LOWEST} and {highest} on 127.0.0.1")


def ephemeral_start() -> int:
    try:
        return int(EPHEMERAL_RANGE.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return DEFAULT_EPHEMERAL_START
