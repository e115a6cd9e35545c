"""Sorting more lines than fit in memory: sorted runs on disk, merged."""

from __future__ import annotations

import heapq
import os
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

RUN_BYTES = 16 << 20
"""How many bytes of lines are held before they are sorted and written."""
_LINE_OVERHEAD = 48
LONGEST_LINE = 64 << 20
"""Bytes; a plan's header with the largest patch is far below."""
_READ_BYTES = 1 << 16


class SortedLines:
    """Lines (bytes that end in a newline and hold no other) given in any order, walked in byte order.

    ``folder`` is where they are kept meanwhile, by default that of temporary files. ``close`` it.
    """

    def __init__(self, folder: Path | None = None, *, run_bytes: int = RUN_BYTES) -> None:
        self._file: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed by close
        self._runs: list[tuple[int, int]] = []
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._run_bytes = run_bytes

    def add(self, line: bytes) -> None:
        """One more line."""
        self._held.append(line)
        self._held_bytes += len(line) + _LINE_OVERHEAD
        if self._held_bytes >= self._run_bytes:
            self._write_run()

    def walk(self) -> Iterator[bytes]:
        """All lines, sorted. Nothing may be added any more."""
        self._held.sort()
        if not self._runs:
            yield from self._held
            return
        self._write_run()
        self._file.flush()
        yield from heapq.merge(*(lines_between(self._file, start, end) for start, end in self._runs))

    def close(self) -> None:
        """Give the disk back."""
        self._file.close()

    def _write_run(self) -> None:
        self._held.sort()
        start = self._file.tell()
        self._file.writelines(self._held)
        self._runs.append((start, self._file.tell()))
        self._held = []
        self._held_bytes = 0


def lines_between(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    """The lines of a flushed file from byte ``start`` to ``end``; several walks may be under way at once. What is
    longer than ``LONGEST_LINE`` ends the walk, as does a file without a last newline: with a line that has none."""
    rest = b""
    while start < end:
        chunk = os.pread(file.fileno(), min(_READ_BYTES, end - start), start)
        if not chunk:
            raise OSError("the temporary file is shorter than what was written to it")
        start += len(chunk)
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line + b"\n"
        if len(rest) > LONGEST_LINE:
            break
    if rest:
        yield rest


def taking_turns(walks: list[Iterator[bytes]], *, block: int) -> Iterator[bytes]:
    """``block`` lines of each in turn, until all have ended; the order within each is kept."""
    while walks:
        left = []
        for walk in walks:
            lines = list(islice(walk, block))
            yield from lines
            if len(lines) == block:
                left.append(walk)
        walks = left
