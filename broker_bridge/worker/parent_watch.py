"""A worker process that ends when the one that started it is gone, however that went.

Its standard input is a pipe that only the parent holds open, so the kernel tells of the parent's end, by SIGKILL too.
A thread waits for it: a handler that blocks the event loop does not keep the process from ending.
"""

from __future__ import annotations

import os
import signal
import threading
import time

STDIN = 0
EXIT_ORPHANED = 1
"""Nobody is left to read it."""


def end_with_parent(*, patience_s: float) -> None:
    """From now on: a drain when the parent is gone, and the end itself ``patience_s`` later."""
    threading.Thread(target=_watch, args=(patience_s,), name="parent-watch", daemon=True).start()


def _watch(patience_s: float) -> None:
    while os.read(STDIN, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience_s)
    os._exit(EXIT_ORPHANED)
