"""Uneven keys, and handlers that fail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.job import Source
from benchmarks.lab import Lab
from benchmarks.scenario import Figures, Point, Scenario, Trial
from benchmarks.scenarios.engine import BRIDGE, METRICS, whole_job

EVEN, HOT, FAILING = Point(0, "even keys"), Point(1, "90 % on one key"), Point(2, "10 % fail once")


class Trouble(Scenario):
    """Order per key holds in all of them."""

    name = "trouble"
    title = "Hot key, failing handlers"
    about = (
        "Orders of one customer are handled one after the other, so a hot key leaves little to do at once. A handler "
        "that fails is tried again in place, with the default wait, while its key waits; all orders get their result."
    )
    contenders = (BRIDGE,)
    metrics = METRICS
    ratios = ("rate", "cpu_us")
    varied = "what is wrong"

    @property
    def rounds(self) -> int:
        """A hot key takes its time."""
        return 2 if self.quick else 3

    def points(self) -> Sequence[Point]:
        """None, then one after the other."""
        return (EVEN, HOT, FAILING)

    def measure(self, lab: Lab, trial: Trial) -> Figures:
        """The whole job."""
        count = 10_000 if self.quick else 100_000
        source = Source("bench.even", count)
        route: dict[str, Any] = {}
        if trial.point == HOT:
            source = Source("bench.hot", count, hot_share=0.9)
        if trial.point == FAILING:
            route = {"target": {"kind": "python", "handler": "benchmarks.peers.bridge:capture_at_second_try"}}
        return whole_job(lab, trial, source, route=route)
