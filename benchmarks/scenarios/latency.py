"""From an event sent to its result seen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from benchmarks.lab import Lab
from benchmarks.meter import Meter, percentile
from benchmarks.processes import ask_to_stop, at_work, loop_factory, peer_command, report_of
from benchmarks.scenario import Contender, Figures, Metric, Point, Scenario, Trial
from benchmarks.verifying import check_keys

NEVER = 10**12


class Latency(Scenario):
    """At a steady rate, well below what either can do."""

    name = "latency"
    title = "End-to-end latency"
    about = (
        "Orders are sent at a steady rate, whether or not answers come. The time of sending travels in the event; the "
        "latency ends when the result is read from its topic, by the same process and clock. Every order gets exactly "
        "one result."
    )
    contenders = (
        Contender("batch_aiokafka", "batch loop by hand, aiokafka, no linger"),
        Contender("bridge", "**broker_bridge**"),
    )
    metrics = (Metric("p50", "p50 ms", 1), Metric("p99", "p99 ms", 1), Metric("p999", "p99.9 ms", 1))
    ratios = ("p99",)
    base = "batch_aiokafka"
    varied = "messages/s"

    def points(self) -> Sequence[Point]:
        """The rates."""
        return (Point(200, "200 messages/s"), Point(2_000, "2 000 messages/s"))

    def measure(self, lab: Lab, trial: Trial) -> Figures:
        """A few seconds of traffic."""
        source = f"{trial.name}.orders"
        lab.ensure(source)
        job = lab.job(trial, source, NEVER, linger_ms=0)
        meter = Meter(job, trial.point.value, warm_s=1.0, for_s=4.0 if self.quick else 30.0)
        with at_work(peer_command(trial.contender.name, job), trial.name) as process:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(meter.run())
            ask_to_stop(process)
            report_of(process, trial.name)
        check_keys(trial.name, meter.came, meter.sent)
        lab.clear(job)
        shares = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
        return {name: percentile(meter.waits_ms, share) for name, share in shares.items()}
