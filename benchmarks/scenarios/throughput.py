"""The whole job, by broker_bridge and by what one would write instead."""

from __future__ import annotations

from benchmarks.crew import crew_figures
from benchmarks.job import SCHEMAS, Job, Source
from benchmarks.lab import Lab, Loaded
from benchmarks.processes import Report, peer_command, work
from benchmarks.programs import compiled_bridge, go_peer
from benchmarks.scenario import Contender, Figures, Metric, Scenario, Trial, WrongWorkError
from benchmarks.verifying import check_results

CREW, GO, COMPILED = "bridge_two", "batch_go", "bridge_compiled"
SLOW = ("naive_aiokafka", "naive_librdkafka", "faststream_loop")


class Throughput(Scenario):
    """Everybody on one preloaded topic."""

    name = "throughput"
    title = "Throughput of the whole job"
    about = (
        "Consume Avro orders (about 97 bytes, 4 partitions, 1 % of them twice), drop duplicates by key in Redis, run a "
        "handler, publish an Avro result for each, commit. Slow contenders stop after a few seconds; every result is "
        "compared byte by byte with what it has to be."
    )
    contenders = (
        Contender("faststream_loop", "FastStream, SET NX a record", needs="faststream"),
        Contender("naive_aiokafka", "aiokafka, a record at a time"),
        Contender("naive_librdkafka", "librdkafka, a record at a time", needs="confluent_kafka"),
        Contender("batch_aiokafka", "best batch loop by hand, aiokafka"),
        Contender("batch_librdkafka", "best batch loop by hand, librdkafka", needs="confluent_kafka"),
        Contender(GO, "the same batch loop in Go, franz-go", needs="program:go"),
        Contender("bridge", "**broker_bridge**, all guarantees on"),
        Contender(COMPILED, "**broker_bridge**, its hot path compiled", needs="program:cc"),
        Contender(CREW, "**broker_bridge**, two processes"),
    )
    metrics = (
        Metric("rate", "messages/s"),
        Metric("cpu_us", "CPU µs each"),
        Metric("rss_mb", "RSS MB"),
    )
    ratios = ("rate", "cpu_us")
    base = "batch_aiokafka"

    def prepare(self, lab: Lab) -> None:
        """One topic for all."""
        self._loaded = lab.fill(Source("bench.orders", 120_000 if self.quick else 200_000))
        self._limit_s = 3.0 if self.quick else 10.0

    def measure(self, lab: Lab, trial: Trial) -> Figures:
        """Until the source is empty, or until the limit for slow ones."""
        name = trial.contender.name
        limit_s = self._limit_s if name in SLOW else 3_600.0
        job = lab.job(trial, self._loaded.source.topic, self._loaded.records, limit_s=limit_s)
        if name == CREW:
            figures = crew_figures(job, processes=2, folder=lab.folder)
            check_results(trial.name, lab.values(job.results), self._loaded.expected)
        else:
            report = work(_command(name, job), trial.name, library=compiled_bridge() if name == COMPILED else None)
            _check(lab, job, self._loaded, report)
            if name in ("bridge", COMPILED) and report.extra["compiled"] != (name == COMPILED):
                raise WrongWorkError(f"{name} has run the other build")
            figures = report.figures()
        lab.clear(job)
        return figures


def _command(name: str, job: Job) -> list[str]:
    if name != GO:
        return peer_command("bridge" if name == COMPILED else name, job)
    options = {
        "bootstrap": job.bootstrap,
        "redis": job.redis_url,
        "source": job.source,
        "results": job.results,
        "name": job.name,
        "schemas": SCHEMAS,
        "records": job.records,
    }
    return [str(go_peer()), *(f"-{option}={value}" for option, value in options.items())]


def _check(lab: Lab, job: Job, loaded: Loaded, report: Report) -> None:
    whole = report.records >= loaded.records
    check_results(job.name, lab.values(job.results), loaded.expected, claimed=None if whole else report.results)
