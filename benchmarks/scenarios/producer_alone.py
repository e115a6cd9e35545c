"""Writing events: the embeddable producer beside bare aiokafka and fastavro."""

from __future__ import annotations

import collections

from benchmarks.job import open_contracts
from benchmarks.lab import Lab
from benchmarks.processes import peer_command, work
from benchmarks.scenario import Contender, Figures, Metric, Scenario, Trial
from benchmarks.verifying import check_keys


class ProducerAlone(Scenario):
    """In batches of 2 000, and one at a time."""

    name = "producer"
    title = "Producer alone"
    about = (
        "Encode and send orders with CloudEvents headers, acks=all and idempotence, in batches of 2 000 and one at a "
        "time, each acknowledged before the next. Read back, every event is there once."
    )
    contenders = (
        Contender("bare_batch", "aiokafka + fastavro, in batches"),
        Contender("bridge_batch", "**broker_bridge** `send_batch`"),
        Contender("bare_send", "aiokafka + fastavro, one at a time", against="bare_send"),
        Contender("bridge_send", "**broker_bridge** `send`", against="bare_send"),
    )
    metrics = (Metric("rate", "events/s"), Metric("cpu_us", "CPU µs each"), Metric("rss_mb", "RSS MB"))
    ratios = ("rate", "cpu_us")
    base = "bare_batch"

    def measure(self, lab: Lab, trial: Trial) -> Figures:
        """So many events into an empty topic."""
        batches = trial.contender.name.endswith("_batch")
        count = (40_000 if batches else 1_500) * (1 if self.quick else 5)
        job = lab.job(trial, "", count)
        report = work(peer_command(f"produce_{trial.contender.name}", job), trial.name)
        contracts = open_contracts()
        ids = (contracts.decode(record.value or b"").value["order_id"] for record in lab.records(job.results))
        check_keys(trial.name, ids, _ids(count))
        lab.clear(job)
        return report.figures()


def _ids(count: int) -> collections.abc.Iterable[str]:
    from benchmarks.job import order

    return (str(order(number)["order_id"]) for number in range(count))
