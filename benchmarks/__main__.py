"""Measures broker_bridge beside what one would write instead; prints tables of medians and ratios.

::

    make bench
    python benchmarks --quick --scenario throughput --only bridge --only batch_aiokafka
    python benchmarks --quick --write-docs
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))

from benchmarks.job import Job  # noqa: E402 - the path comes first
from benchmarks.processes import be_peer  # noqa: E402

LATEST = ROOT / "benchmarks" / "results" / "latest.json"


def main() -> int:
    """Parse the command line; ``--peer`` is for the processes this one starts."""
    if "--peer" in sys.argv:
        return _peer()
    from benchmarks.catalogue import SCENARIOS

    parser = argparse.ArgumentParser(
        prog="benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), help="may be given more than once")
    parser.add_argument("--only", action="append", metavar="CONTENDER", help="may be given more than once")
    parser.add_argument("--quick", action="store_true", help="smaller and shorter: all of it within ten minutes")
    parser.add_argument("--write-docs", action="store_true", help="also write docs/benchmarks.md and its plot")
    parser.add_argument("--json", type=Path, default=LATEST, help="where the figures go (default: %(default)s)")
    return _measure(parser.parse_args())


def _peer() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", required=True)
    parser.add_argument("--job", required=True)
    given = parser.parse_args()
    be_peer(given.peer, Job(**json.loads(given.job)))
    return 0


def _measure(given: argparse.Namespace) -> int:
    from benchmarks.catalogue import SCENARIOS
    from benchmarks.lab import Lab
    from benchmarks.machine import facts
    from benchmarks.page import publish, tables
    from benchmarks.programs import BuildError
    from benchmarks.results import Run
    from benchmarks.rounds import run_all
    from benchmarks.scenario import WrongWorkError
    from broker_bridge.stack import LocalStack, StackSpec

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # of topics made a moment ago it says that they are new

    began = time.monotonic()
    scenarios = [SCENARIOS[name](quick=given.quick) for name in given.scenario or SCENARIOS]
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalStack(StackSpec(data_dir=Path(folder), tie_to_parent=True, install=True)) as stack,
    ):
        run = Run(facts(stack.status().versions), _command(sys.argv[1:]))
        for name, value in run.machine.items():
            say(f"{name:<18} {value}")
        try:
            run_all(scenarios, Lab(stack, Path(folder), say), run, say, only=given.only)
        except (WrongWorkError, BuildError) as error:
            print(f"\nfailed: {error}", file=sys.stderr)
            return 1
    run.took_s = time.monotonic() - began
    run.write(given.json)
    say("\n" + tables(run) + f"\n{run.took_s:,.0f} s; figures: {given.json}")
    if given.write_docs:
        publish(run, ROOT, list(SCENARIOS))
    return 0


def _command(arguments: Sequence[str]) -> str:
    return " ".join(["python benchmarks", *arguments])


def say(line: str) -> None:
    """At once: a run takes minutes."""
    print(line, flush=True)


sys.exit(main())
