"""Time and CPU of the work itself: from the first record in hand to the last one committed, imports and joining not
counted."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any


class Stopwatch:
    """Held by a contender while it works."""

    def __init__(self) -> None:
        self.began_at = 0.0
        self.ended_at = 0.0
        self.records = 0
        self.results = 0
        self.extra: dict[str, Any] = {}
        self._cpu_before_s = 0.0
        self._cpu_s = 0.0

    def begin(self) -> None:
        """The first record is here. Later calls change nothing."""
        if not self.began_at:
            self.began_at = time.time()
            self._cpu_before_s = _cpu_s()

    def did(self, records: int, results: int) -> None:
        """So many more are done, and so many results published."""
        self.reached(self.records + records, self.results + results)

    def reached(self, records: int, results: int) -> None:
        """So many are done altogether."""
        self.records, self.results = records, results
        self.ended_at = time.time()
        self._cpu_s = _cpu_s() - self._cpu_before_s

    def over(self, limit_s: float) -> bool:
        """Whether the work has taken longer than that."""
        return bool(self.began_at) and time.time() - self.began_at >= limit_s

    def report(self) -> dict[str, Any]:
        """What the process prints at its end."""
        return {
            "records": self.records,
            "results": self.results,
            "began_at": self.began_at,
            "ended_at": self.ended_at,
            "cpu_s": self._cpu_s,
            "rss_mb": peak_rss_mb(),
            "extra": self.extra,
        }


def peak_rss_mb(process: int | str = "self") -> float:
    """The most memory that was resident, 0 of a process that has ended. Not by getrusage: there the parent's counts
    too, until the exec."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
