"""``broker-bridge worker run --processes``, as an operator runs it: how fast the processes are together, once all take
part."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.job import Job
from benchmarks.peers.bridge import SETTINGS, prepare
from benchmarks.processes import ask_to_stop, at_work
from benchmarks.scenario import Figures, WrongWorkError
from benchmarks.stopwatch import peak_rss_mb
from broker_bridge.bootstrap import open_transport

LOOK_S = 0.05
PATIENCE_S = 600.0
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Look(NamedTuple):
    """What the group had committed at a time, the CPU its processes and their parent had used, and the most memory that
    one of them had held."""

    at: float
    committed: int
    cpu_s: float = 0.0
    rss_mb: float = 0.0


def crew_figures(job: Job, *, processes: int, folder: Path) -> Figures:
    """Start them by one command, wait until the group has committed the last record, stop them."""
    path, log_path = folder / f"{job.name}.toml", folder / f"{job.name}.log"
    path.write_text(as_toml(job), encoding="utf-8")
    asyncio.run(prepare(job.config(**SETTINGS), job))
    program = str(Path(sys.executable).with_name("broker-bridge"))
    command = [program, "worker", "run", "--config", str(path), "--processes", str(processes)]
    with log_path.open("wb") as log, at_work(command, job.name, errors=log) as parent:
        looks = asyncio.run(_until_committed(job, parent.pid, log_path))
        ask_to_stop(parent)
        if parent.wait(PATIENCE_S):
            raise WrongWorkError(f"{job.name} failed with status {parent.returncode}:\n{log_path.read_text()[-3000:]}")
    return together(all_at_work(log_lines(log_path), processes), looks)


def as_toml(job: Job) -> str:
    """The job's configuration as a file, with logs that tell when a process has its partitions."""
    sections = {**job.servers(), "logging": {"level": "info", "format": "json"}}
    lines = [f"{name} = {_inline(section)}" for name, section in sections.items()]
    return "\n".join([*lines, f"route = [{_inline(job.route_section(**SETTINGS))}]", ""])


def together(began_at: float | None, looks: Sequence[Look]) -> Figures:
    """Rate and CPU from the first commit after every process had its share: before it, one of them worked alone.

    Raises ``WrongWorkError`` where that moment never came.
    """
    steps = [(before, after) for before, after in pairwise(looks) if after.committed > before.committed]
    # What a look finds committed was committed after the look before.
    counted = [(before.at, after) for before, after in steps if began_at is not None and before.at >= began_at]
    if len(counted) < 2:
        raise WrongWorkError("one process had done everything before the other took part: the source is too short")
    (first_at, first), (_, last) = counted[0], counted[-1]
    records = last.committed - first.committed
    return {
        "rate": records / max(last.at - first_at, 1e-6),
        "cpu_us": (last.cpu_s - first.cpu_s) / records * 1e6,
        "rss_mb": last.rss_mb,
    }


def all_at_work(lines: Iterable[Mapping[str, Any]], processes: int) -> float | None:
    """When the last of them was given its partitions, in seconds since the epoch; None where one got none."""
    given = {
        line["process"]: datetime.fromisoformat(line["timestamp"]).timestamp()
        for line in lines
        if line["event"] == "partitions_assigned" and line["partitions"]
    }
    return max(given.values()) if len(given) == processes else None


def log_lines(path: Path) -> list[dict[str, Any]]:
    """The log so far; a line that is being written is left out."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1] if line.startswith("{")]


async def _until_committed(job: Job, parent: int, log_path: Path) -> list[Look]:
    reader = open_transport(job.config()).reader()
    await reader.start()
    looks: list[Look] = []
    deadline = time.monotonic() + PATIENCE_S
    try:
        while time.monotonic() < deadline:
            committed = await reader.group_offsets(job.name, [job.source])
            pids = [line["pid"] for line in log_lines(log_path) if line["event"] == "process_started"]
            cpu_s = sum(_cpu_s(pid) for pid in (parent, *pids))
            done = sum(offset or 0 for offset in committed.values())
            looks.append(Look(time.time(), done, cpu_s, max(map(peak_rss_mb, pids), default=0.0)))
            if done >= job.records:
                return looks
            await asyncio.sleep(LOOK_S)
    finally:
        await reader.stop()
    raise WrongWorkError(f"{job.name} did not commit everything within {PATIENCE_S:.0f} s")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def _inline(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_inline(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)
