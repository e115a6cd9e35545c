"""From starting a worker to the first result."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.job import ORDER, PAYMENT, SCHEMAS, Job, Source
from benchmarks.lab import Lab
from benchmarks.processes import ask_to_stop, at_work, peer_command
from benchmarks.scenario import Contender, Figures, Metric, Scenario, Trial, WrongWorkError
from benchmarks.verifying import check_results
from broker_bridge.bootstrap import open_transport

PATIENCE_S = 60.0
CONFIG = """
[bridge]
schemas = "{schemas}"
[kafka]
bootstrap = "{bootstrap}"
[redis]
url = "{redis}"
prefix = "{name}"
[[route]]
name = "{name}"
topic = "{source}"
contract = {{ subject = "{order}" }}
target = {{ kind = "python", handler = "benchmarks.peers.bridge:capture" }}
output = {{ topic = "{results}", subject = "{payment}", key = "customer_id" }}
retry = {{ lanes = ["2s", "1m"] }}
"""


class StartUp(Scenario):
    """One message waits; the topics are there."""

    name = "start"
    title = "Worker start to first result"
    about = (
        "One order waits. The clock runs from starting the process (`broker-bridge worker run`, as an operator does) "
        "to its result in Kafka: interpreter, imports, joining the group, rebuilding what was parked, the work itself."
    )
    contenders = (
        Contender("batch_aiokafka", "batch loop by hand, aiokafka"),
        Contender("bridge", "**broker_bridge** `worker run`"),
    )
    metrics = (Metric("seconds", "seconds", 2),)
    ratios = ("seconds",)
    base = "batch_aiokafka"

    @property
    def rounds(self) -> int:
        """Cheap enough."""
        return 5

    def measure(self, lab: Lab, trial: Trial) -> Figures:
        """One start."""
        loaded = lab.fill(Source("bench.one", 1, duplicates=0.0))
        job = lab.job(trial, loaded.source.topic, 2)  # never done: it is stopped when the result is seen
        took_s = asyncio.run(_time_to_result(job, _command(lab, trial, job)))
        check_results(trial.name, lab.values(job.results), loaded.expected)
        lab.clear(job)
        return {"seconds": took_s}


async def _time_to_result(job: Job, command: list[str]) -> float:
    """Seconds from the start of the process to the first record in the result topic."""
    reader = open_transport(job.config()).reader()
    await reader.start()
    try:
        with at_work(command, job.name) as process:
            began = time.monotonic()
            while not any(end for _, end in (await reader.offsets([job.results])).values()):
                if process.poll() is not None or time.monotonic() > began + PATIENCE_S:
                    raise WrongWorkError(f"{job.name}: no result (status {process.poll()})")
            took_s = time.monotonic() - began
            ask_to_stop(process)
            process.communicate(timeout=PATIENCE_S)
            return took_s
    finally:
        await reader.stop()


def _command(lab: Lab, trial: Trial, job: Job) -> list[str]:
    if trial.contender.name != "bridge":
        return peer_command(trial.contender.name, job)
    path = lab.folder / f"{trial.name}.toml"
    path.write_text(
        CONFIG.format(
            schemas=SCHEMAS,
            bootstrap=job.bootstrap,
            redis=job.redis_url,
            name=job.name,
            source=job.source,
            results=job.results,
            order=ORDER,
            payment=PAYMENT,
        ),
        encoding="utf-8",
    )
    program = Path(sys.executable).with_name("broker-bridge")
    subprocess.run([program, "worker", "topics", "--config", path], check=True, capture_output=True)
    return [str(program), "worker", "run", "--config", str(path)]
