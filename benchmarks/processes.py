"""Each contender works in a process of its own and says at its end, in one line of JSON, what it did."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from benchmarks.job import Job
from benchmarks.scenario import WrongWorkError
from benchmarks.stopwatch import Stopwatch

HERE = Path(__file__).parent
PATIENCE_S = 1_800.0


@dataclass(frozen=True)
class Report:
    """What one process did; the times are since the epoch."""

    records: int
    results: int
    began_at: float
    ended_at: float
    cpu_s: float
    rss_mb: float
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def took_s(self) -> float:
        """From the first record to the last commit."""
        return max(self.ended_at - self.began_at, 1e-6)

    def figures(self) -> dict[str, float]:
        """Rate, CPU a message and memory."""
        return {
            "rate": self.records / self.took_s,
            "cpu_us": self.cpu_s / max(self.records, 1) * 1e6,
            "rss_mb": self.rss_mb,
        }


def peer_command(peer: str, job: Job) -> list[str]:
    """The command that does ``job`` as the module ``benchmarks.peers.<peer>`` does it."""
    return [sys.executable, str(HERE), "--peer", peer, "--job", job.as_json()]


def be_peer(peer: str, job: Job) -> None:
    """The process itself: on uvloop where it is installed, as every contender."""
    module = importlib.import_module(f"benchmarks.peers.{peer}")
    watch = Stopwatch()
    if inspect.iscoroutinefunction(module.run):
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(module.run(job, watch))
    else:
        module.run(job, watch)
    print(json.dumps(watch.report()))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def work(command: Sequence[str], name: str, *, library: Path | None = None) -> Report:
    """Run to the end. Raises ``WrongWorkError`` where the contender fails."""
    with at_work(command, name, library=library) as process:
        return report_of(process, name)


@contextlib.contextmanager
def at_work(
    command: Sequence[str], name: str, *, errors: int | IO[bytes] = subprocess.PIPE, library: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """The process while the block runs; it does not outlive the block. ``errors`` is where its stderr goes, ``library``
    a folder in front of its path for modules."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        cwd=HERE.parent,
        env=None if library is None else {**os.environ, "PYTHONPATH": f"{library}{os.pathsep}{HERE.parent}"},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def report_of(process: subprocess.Popen[str], name: str) -> Report:
    """Wait for the end and read what it said."""
    try:
        out, errors = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise WrongWorkError(f"{name} did not end within {PATIENCE_S:.0f} s") from None
    if process.returncode:
        raise WrongWorkError(f"{name} failed with status {process.returncode}:\n{errors[-3000:]}")
    return Report(**json.loads(out.splitlines()[-1]))


def ask_to_stop(process: subprocess.Popen[str]) -> None:
    """As an operator would."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
