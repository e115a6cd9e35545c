"""Does a message cost more when there are many partitions?"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.job import Source
from benchmarks.lab import Lab
from benchmarks.scenario import Figures, Point, Scenario, Trial
from benchmarks.scenarios.engine import BRIDGE, BY_HAND, METRICS, whole_job

RECORDS = 20_000


class PartitionCount(Scenario):
    """The same messages, spread wider."""

    name = "partitions"
    title = "Number of partitions"
    about = (
        f"{RECORDS:,} orders over so many partitions, all read by one process. broker_bridge reads its four lanes with "
        "as many partitions each, beside the source."
    ).replace(",", " ", 1)
    contenders = (BY_HAND, BRIDGE)
    metrics = METRICS
    ratios = ("cpu_us",)
    varied = "partitions"

    @property
    def rounds(self) -> int:
        """Thousands of partitions take long to make."""
        return 2

    def points(self) -> Sequence[Point]:
        """From one."""
        counts = (1, 10, 100) if self.quick else (1, 10, 100, 1_000)
        return [Point(count, f"{count:,}".replace(",", " ")) for count in counts]

    def measure(self, lab: Lab, trial: Trial) -> Figures:
        """All of them."""
        count = int(trial.point.value)
        return whole_job(lab, trial, Source(f"bench.spread-{count}", RECORDS, partitions=count))
