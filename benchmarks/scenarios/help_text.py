"""How long the command line lets its user wait."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.lab import Lab
from benchmarks.scenario import Contender, Figures, Metric, Scenario, Trial, WrongWorkError

COMMANDS = {
    "python": ([sys.executable, "-c", "print('Usage')"]),
    "help": ([str(Path(sys.executable).with_name("broker-bridge")), "--help"]),
    "help_of_worker": ([str(Path(sys.executable).with_name("broker-bridge")), "worker", "run", "--help"]),
}


class HelpText(Scenario):
    """From the command typed to its last line."""

    name = "help"
    title = "Command line"
    about = "From starting the command to its end."
    contenders = (
        Contender("python", "Python itself, printing a word"),
        Contender("help", "`broker-bridge --help`"),
        Contender("help_of_worker", "`broker-bridge worker run --help`"),
    )
    metrics = (Metric("ms", "ms"),)
    ratios = ("ms",)
    base = "python"

    @property
    def rounds(self) -> int:
        """Cheap enough for a good median."""
        return 7

    def measure(self, lab: Lab, trial: Trial) -> Figures:
        """One call."""
        began = time.perf_counter()
        ended = subprocess.run(COMMANDS[trial.contender.name], capture_output=True, text=True, check=False, timeout=60)
        took_s = time.perf_counter() - began
        if ended.returncode or "Usage" not in ended.stdout:
            raise WrongWorkError(f"{trial.name}: status {ended.returncode}\n{ended.stderr}")
        return {"ms": took_s * 1000}
