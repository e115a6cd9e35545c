"""Ctrl-C and SIGTERM for commands that work in batches: end after the batch in flight, not in the middle of it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_WANTED = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_event() -> Iterator[asyncio.Event]:
    """An event that either signal sets, inside a running loop. A second signal is not waited for: it ends the command
    as ever."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def wish() -> None:
        stop.set()
        for wanted in _WANTED:
            loop.remove_signal_handler(wanted)

    for wanted in _WANTED:
        loop.add_signal_handler(wanted, wish)
    try:
        yield stop
    finally:
        for wanted in _WANTED:
            loop.remove_signal_handler(wanted)
