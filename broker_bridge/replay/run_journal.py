"""Who ran a plan, when, and how each run ended: lines added beside the plan, never changed.

The plan says what and why, the journal who and when, the redrive lane what was really sent. A run without an ``ended``
line was killed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

from broker_bridge.core.plan_lines import canonical
from broker_bridge.errors import ReplayError


class RunJournal:
    """The journal of one plan: ``<plan>.runs``, NDJSON."""

    def __init__(self, plan_path: Path) -> None:
        self.path = plan_path.with_name(plan_path.name + ".runs")

    def add(self, **entry: Any) -> None:
        """Add a line and flush it to disk. Raises ``ReplayError``: a replay that leaves no trace must not run."""
        try:
            with self.path.open("a+b") as file:
                file.write(self._line_end(file) + canonical(entry))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ReplayError(
                f"cannot write the journal of runs: {error.strerror}",
                where=str(self.path),
                remedy="copy the plan into a folder that can be written",
            ) from error

    def _line_end(self, file: BinaryIO) -> bytes:
        """What ends a line that a crash cut, so that the next one is not lost with it."""
        if file.tell() == 0:
            return b""
        file.seek(-1, os.SEEK_END)
        return b"" if file.read(1) == b"\n" else b"\n"

    def entries(self) -> list[dict[str, Any]]:
        """Every whole line that is there; a line cut by a crash is left out."""
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ReplayError(f"cannot be read: {error.strerror}", where=str(self.path)) from error
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return [entry for entry in found if isinstance(entry, dict)]
