"""What the scenarios about the engine alone have in common: broker_bridge does the whole job on one source."""

from __future__ import annotations

from typing import Any

from benchmarks.job import Source
from benchmarks.lab import Lab
from benchmarks.processes import peer_command, work
from benchmarks.scenario import Contender, Figures, Metric, Trial
from benchmarks.verifying import check_results

BRIDGE = Contender("bridge", "**broker_bridge**")
BY_HAND = Contender("batch_aiokafka", "batch loop by hand, aiokafka")
METRICS = (
    Metric("rate", "messages/s"),
    Metric("cpu_us", "CPU µs each"),
    Metric("rss_mb", "RSS MB"),
)


def whole_job(lab: Lab, trial: Trial, source: Source, **options: Any) -> Figures:
    """The source is filled before, and every result checked after."""
    loaded = lab.fill(source)
    job = lab.job(trial, source.topic, loaded.records, **options)
    report = work(peer_command(trial.contender.name, job), trial.name)
    check_results(trial.name, lab.values(job.results), loaded.expected)
    lab.clear(job)
    return report.figures()
