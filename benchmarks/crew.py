"""Several processes of the bridge in one group: how fast they are together, once all take part."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from benchmarks.job import Job
from benchmarks.processes import Report, ask_to_stop, at_work, peer_command, report_of
from benchmarks.scenario import Figures, WrongWorkError
from broker_bridge.bootstrap import open_transport

LOOK_S = 0.05
PATIENCE_S = 600.0

Progress = list[tuple[float, int]]
"""How much the group had committed, and when: looks at Kafka, in order."""


def crew_figures(job: Job, *, processes: int) -> Figures:
    """Start them at once, wait until the group has committed the last record, stop them."""
    job = replace(job, options={**job.options, "crew": True})
    with contextlib.ExitStack() as stack:
        crew = [stack.enter_context(at_work(peer_command("bridge", job), job.name)) for _ in range(processes)]
        progress = asyncio.run(_until_committed(job))
        for process in crew:
            ask_to_stop(process)
        reports = [report_of(process, job.name) for process in crew]
    return together(reports, progress)


def together(reports: Sequence[Report], progress: Progress) -> Figures:
    """The rate from the first commit after every process had work: before it, one of them worked alone.

    Raises ``WrongWorkError`` where that moment never came.
    """
    all_at_work = max(report.began_at for report in reports) if all(report.began_at for report in reports) else None
    steps = [(before[0], after[1]) for before, after in pairwise(progress) if after[1] > before[1]]
    counted = [(at, done) for at, done in steps if all_at_work is not None and at >= all_at_work]
    if len(counted) < 2:
        raise WrongWorkError("one process had done everything before the other took part: the source is too short")
    (began_at, before), (_, records) = counted[0], counted[-1]
    ended_at = max(report.ended_at for report in reports)
    return {
        "rate": (records - before) / max(ended_at - began_at, 1e-6),
        "cpu_us": sum(report.cpu_s for report in reports) / records * 1e6,
        "rss_mb": max(report.rss_mb for report in reports),
    }


async def _until_committed(job: Job) -> Progress:
    reader = open_transport(job.config()).reader()
    await reader.start()
    progress: Progress = []
    deadline = time.monotonic() + PATIENCE_S
    try:
        while time.monotonic() < deadline:
            committed = await reader.group_offsets(job.name, [job.source])
            progress.append((time.time(), sum(offset or 0 for offset in committed.values())))
            if progress[-1][1] >= job.records:
                return progress
            await asyncio.sleep(LOOK_S)
    finally:
        await reader.stop()
    raise WrongWorkError(f"{job.name} did not commit everything within {PATIENCE_S:.0f} s")
