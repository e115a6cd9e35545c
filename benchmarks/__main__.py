"""Runs every contender in turn, several rounds, on one preloaded topic; prints a table of medians and ratios.

::

    make bench
    python benchmarks --records 100000 --rounds 3 --only naive --only bridge
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.job import Job, count, load  # noqa: E402 - the path comes first
from broker_bridge.stack import LocalStack, StackSpec  # noqa: E402

CONTENDERS = {
    "naive": "a record at a time: SET NX, send and wait",
    "batch_loop": "best hand-written loop: one Lua claim a batch",
    "bridge": "broker_bridge, all guarantees on",
}


def main() -> None:
    """Parse the command line; ``--contender`` is for the processes this one starts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=60_000, help="distinct orders in the source")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=8.0, metavar="S", help="a slow contender stops after S seconds")
    parser.add_argument("--only", action="append", choices=list(CONTENDERS), help="may be given more than once")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contender:
        _be_contender(given.contender, Job(**json.loads(given.job)), given.limit)
        return
    _compare(given)


def _be_contender(name: str, job: Job, limit_s: float) -> None:
    module = importlib.import_module(f"benchmarks.peers.{name}")
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        done, took_s = runner.run(module.run(job, limit_s))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {"done": done, "took_s": took_s, "cpu_s": used.ru_utime + used.ru_stime, "rss_mb": used.ru_maxrss / 1024}
        )
    )


def _compare(given: argparse.Namespace) -> None:
    names = given.only or list(CONTENDERS)
    load_now = os.getloadavg()[0]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, load {load_now:.1f}")
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalStack(StackSpec(data_dir=Path(folder), tie_to_parent=True, install=True)) as stack,
    ):
        records = asyncio.run(load(stack.bootstrap, "bench.orders", given.records))
        print(f"{records} records, {records - given.records} of them duplicates; {given.rounds} rounds, in turn")
        figures: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for round_number in range(given.rounds):
            for name in names:
                figures[name].append(_round(name, round_number, stack, records, given))
        _table(figures)
        if given.json:
            given.json.write_text(json.dumps(figures, indent=1))


def _round(name: str, number: int, stack: LocalStack, records: int, given: argparse.Namespace) -> dict[str, float]:
    job = Job(stack.bootstrap, stack.redis_url, "bench.orders", f"{name}-{number}", records, given.records)
    asyncio.run(_make_results(job))
    given_job = ["--contender", name, "--job", json.dumps(job.__dict__), "--limit", str(given.limit)]
    command = [sys.executable, str(ROOT / "benchmarks"), *given_job]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if ended.returncode:
        raise SystemExit(f"{name} failed:\n{ended.stderr[-3000:]}")
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    found["rate"] = found["done"] / found["took_s"]
    if found["done"] >= records:
        written = asyncio.run(count(stack.bootstrap, job.results))
        if written != given.records:
            raise SystemExit(f"{name} wrote {written} results for {given.records} distinct orders")
    took = f"{found['done']:>8,.0f} in {found['took_s']:.1f} s"
    print(f"  round {number + 1}  {name:<11} {found['rate']:>9,.0f} records/s {took}")
    return found


async def _make_results(job: Job) -> None:
    from benchmarks.job import PARTITIONS
    from broker_bridge.bootstrap import open_transport
    from broker_bridge.transport.base import TopicSpec

    admin = open_transport(job.config()).admin()
    await admin.start()
    await admin.ensure([TopicSpec(job.results, PARTITIONS)])
    await admin.stop()


def _table(figures: dict[str, list[dict[str, float]]]) -> None:
    first = next(iter(figures))
    print(f"\n{'':<48} {'records/s':>10} {'min–max':>16} {'CPU µs each':>12} {'RSS MB':>7} {'× ' + first:>9}")
    base = statistics.median(found["rate"] for found in figures[first])
    for name, rounds in figures.items():
        rates = [found["rate"] for found in rounds]
        cpu = statistics.median(found["cpu_s"] / found["done"] * 1e6 for found in rounds)
        rss = max(found["rss_mb"] for found in rounds)
        spread = f"{min(rates):,.0f}–{max(rates):,.0f}"
        middle = statistics.median(rates)
        print(f"{CONTENDERS[name]:<48} {middle:>10,.0f} {spread:>16} {cpu:>12.0f} {rss:>7.0f} {middle / base:>8.1f}×")


main()
