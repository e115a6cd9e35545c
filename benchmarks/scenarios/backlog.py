"""Does a message cost more when many are waiting?"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.job import Source
from benchmarks.lab import Lab
from benchmarks.scenario import Figures, Point, Scenario, Trial
from benchmarks.scenarios.engine import BRIDGE, METRICS, whole_job


class Backlog(Scenario):
    """The same job with more and more in front of it."""

    name = "backlog"
    title = "Growing backlog"
    about = "So many messages are waiting when the worker starts. Cost and memory of a message should not notice."
    contenders = (BRIDGE,)
    metrics = METRICS
    ratios = ("cpu_us",)
    varied = "messages waiting"

    @property
    def rounds(self) -> int:
        """A million takes its time."""
        return 2

    def points(self) -> Sequence[Point]:
        """Up to a million."""
        sizes = (10_000, 100_000) if self.quick else (10_000, 100_000, 1_000_000)
        return [Point(size, f"{size:,}".replace(",", " ")) for size in sizes]

    def measure(self, lab: Lab, trial: Trial) -> Figures:
        """All of it."""
        return whole_job(lab, trial, Source(f"bench.backlog-{trial.point.value:.0f}", int(trial.point.value)))
