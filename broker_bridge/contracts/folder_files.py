"""Writing into a folder of schemas that others read and write at the same time."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from broker_bridge.errors import FolderBusyError, NotFoundError

LOCK_WITHIN_S: Final = 10.0
"""Registering holds the lock for milliseconds; who waits this long waits for something that hangs."""
_POLL_S: Final = 0.005


def replace_text(path: Path, text: str) -> None:
    """The file with this text, whole or not at all: written beside it, forced to disk, renamed over it.

    Under the folder's lock, so that what is beside it can only be what a killed process left; it is written over.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """An exclusive lock on the folder itself, so that no lock file is left behind; the system drops it on death.

    Raises NotFoundError, and FolderBusyError where another process holds it for longer than ``LOCK_WITHIN_S``.
    """
    if not folder.is_dir():
        raise NotFoundError("there is no such folder of schemas", where=str(folder))
    handle = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + LOCK_WITHIN_S
        while not _taken(handle):
            if time.monotonic() >= deadline:
                raise FolderBusyError(f"another process has held the folder for {LOCK_WITHIN_S:g} s", where=str(folder))
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
