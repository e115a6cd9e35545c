"""A command measured from outside, from its start to its end, as the one who typed it waits for it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import PATIENCE_S, at_work
from benchmarks.scenario import Figures, WrongWorkError
from benchmarks.stopwatch import peak_rss_mb

LOOK_S = 0.02
PROGRAM = str(Path(sys.executable).with_name("broker-bridge"))


@dataclass(frozen=True)
class Ended:
    """What a command printed and what it took."""

    out: str
    took_s: float
    cpu_s: float
    rss_mb: float

    def figures(self, records: int) -> Figures:
        """Records a second of its whole life, imports and connecting included; CPU a record; the most memory."""
        return {"rate": records / self.took_s, "cpu_us": self.cpu_s / records * 1e6, "rss_mb": self.rss_mb}


def measured(command: Sequence[str], name: str, folder: Path) -> Ended:
    """Run it to its end. Raises ``WrongWorkError`` where it fails; what it said on stderr is kept in ``folder``."""
    log_path = folder / f"{name}.log"
    with log_path.open("wb") as log, at_work(command, name, errors=log) as process:
        began, rss_mb = time.monotonic(), 0.0
        while True:
            rss_mb = max(rss_mb, peak_rss_mb(process.pid))
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > began + PATIENCE_S:
                raise WrongWorkError(f"{name} did not end within {PATIENCE_S:.0f} s")
            time.sleep(LOOK_S)
        took_s = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out = process.stdout.read() if process.stdout else ""
    if process.returncode:
        said = log_path.read_text(encoding="utf-8", errors="replace")[-3000:]
        raise WrongWorkError(f"{name} failed with status {process.returncode}:\n{said}")
    return Ended(out, took_s, used.ru_utime + used.ru_stime, rss_mb)
