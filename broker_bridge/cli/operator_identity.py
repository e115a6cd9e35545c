"""Who gives a command, and from where."""

from __future__ import annotations

import getpass
import socket


def user_name() -> str:
    """The user's name as the system has it; ``unknown`` where it has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def host_name() -> str:
    """This machine's name."""
    return socket.gethostname() or "unknown"
