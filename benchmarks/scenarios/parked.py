"""A target that is down for hours: messages park in a retry lane, and memory must not."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.job import Source
from benchmarks.lab import Lab
from benchmarks.processes import peer_command, work
from benchmarks.scenario import Figures, Metric, Point, Scenario, Trial
from benchmarks.scenarios.engine import BRIDGE
from benchmarks.verifying import check_keys

LANE_MS = 6 * 3_600_000
NEVER = 10_000_000
"""So many failures before the breaker opens: here the target is asked, and asked again."""


class Parked(Scenario):
    """Every key fails: its first message goes to a lane, all others park behind it."""

    name = "parked"
    title = "Parked messages"
    about = (
        "The handler fails for every one of 5 000 customers. The first message of each goes to a retry lane of six "
        "hours, all later ones park behind it there, in order. Afterwards the lane holds every order once."
    )
    contenders = (BRIDGE,)
    metrics = (
        Metric("rate", "messages/s"),
        Metric("cpu_us", "CPU µs each"),
        Metric("rss_mb", "RSS MB"),
        Metric("parked", "parked in memory"),
    )
    ratios = ("cpu_us",)
    varied = "messages"

    @property
    def rounds(self) -> int:
        """It takes long and varies little."""
        return 1

    def points(self) -> Sequence[Point]:
        """How many park."""
        sizes = (10_000, 20_000) if self.quick else (20_000, 200_000, 1_000_000)
        return [Point(size, f"{size:,}".replace(",", " ")) for size in sizes]

    def measure(self, lab: Lab, trial: Trial) -> Figures:
        """Until the source is empty."""
        source = Source(f"bench.parked-{trial.point.value:.0f}", int(trial.point.value), duplicates=0.0)
        loaded = lab.fill(source)
        route = {
            "target": {"kind": "python", "handler": "benchmarks.peers.bridge:always_fails"},
            "retry": {"in_place": 1, "lanes": [LANE_MS]},
            "breaker": {"window": NEVER, "min_failures": NEVER},
        }
        job = lab.job(trial, source.topic, loaded.records, route=route)
        report = work(peer_command("bridge", job), trial.name)
        ids = ((dict(record.headers)["ce_id"] or b"").decode() for record in lab.records(lab.lane(job, LANE_MS)))
        check_keys(trial.name, ids, (value["order_id"] for value in source.orders()))
        lab.clear(job)
        return {**report.figures(), "parked": report.extra["parked"]}
