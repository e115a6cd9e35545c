"""Kafka to an HTTP service in Rust."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.job import SCHEMAS, Job, Source
from benchmarks.lab import Lab
from benchmarks.peers.http_posting import CONCURRENCY
from benchmarks.processes import peer_command, work
from benchmarks.programs import effects, go_peer, payments_at_work
from benchmarks.scenario import Contender, Figures, Metric, Scenario, Trial
from benchmarks.verifying import check_keys

GO = "forward_go"
BATCH = 64
IN_HAND = 256


class HttpDelivery(Scenario):
    """The same service, with the same durability, for all."""

    name = "http"
    title = "HTTP delivery to a Rust service"
    about = (
        f"Every order is POSTed to the payments service of the examples, {CONCURRENCY} requests at once; in the batch "
        f"form up to {BATCH} orders a request, {IN_HAND} in hand. The service recognises repeats and writes a line for "
        "each effect: afterwards its log holds every order once."
    )
    contenders = (
        Contender("http_client_alone", "aiohttp client alone, no Kafka"),
        Contender("http_loop", "aiokafka + aiohttp loop by hand"),
        Contender(GO, "forwarder in Go, franz-go + net/http", needs="program:go"),
        Contender("bridge", "**broker_bridge**"),
        Contender("bridge_batch", "**broker_bridge**, many messages a request"),
    )
    metrics = (Metric("rate", "messages/s"), Metric("cpu_us", "CPU µs each"), Metric("rss_mb", "RSS MB"))
    ratios = ("rate", "cpu_us")
    base = "http_loop"

    def prepare(self, lab: Lab) -> None:
        """One topic for all."""
        self._loaded = lab.fill(Source("bench.http", 10_000 if self.quick else 50_000))
        self._ids = [value["order_id"] for value in self._loaded.source.orders()]

    def measure(self, lab: Lab, trial: Trial) -> Figures:
        """A service of its own for each trial."""
        log = lab.folder / f"{trial.name}.ndjson"
        job = lab.job(trial, self._loaded.source.topic, self._loaded.records)
        with payments_at_work(log) as url:
            report = work(_command(trial.contender.name, job, url), trial.name)
        check_keys(trial.name, effects(log), self._ids)
        lab.clear(job)
        return report.figures()


def _command(name: str, job: Job, url: str) -> list[str]:
    if name == GO:
        options = {
            "mode": "forward",
            "bootstrap": job.bootstrap,
            "source": job.source,
            "name": job.name,
            "schemas": SCHEMAS,
            "records": job.records,
            "url": url,
            "concurrency": CONCURRENCY,
        }
        return [str(go_peer()), *(f"-{option}={value}" for option, value in options.items())]
    if name.startswith("bridge"):
        together = {"batch": BATCH} if name == "bridge_batch" else {}
        route = {
            "target": {"kind": "http", "url": url, **together},
            "output": None,
            "concurrency": IN_HAND if together else CONCURRENCY,
        }
        return peer_command("bridge", replace(job, options={"route": route}))
    return peer_command(name, replace(job, options={"url": url}))
