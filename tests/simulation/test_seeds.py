"""Many small worlds under attack, each decided by its seed; whatever went wrong, the invariants hold.

More seeds, or one again::

    python tests/simulation --seeds 0:20000
    python tests/simulation --seeds 190:191
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from figures import report
from runs import AGAIN, Figures, kinds_of, run_on
from shrink import shrink, story
from worlds import KINDS, STEPS, plan_of

SEEDS = range(2_002)
ROWS = 14


@pytest.fixture(scope="module")
def figures() -> Figures:
    """Those of every seed that was run."""
    return Figures()


@pytest.mark.parametrize("row", range(ROWS))
def test_the_invariants_hold_whatever_goes_wrong(row: int, pool: ProcessPoolExecutor, figures: Figures) -> None:
    for part in run_on(pool, SEEDS[len(SEEDS) * row // ROWS : len(SEEDS) * (row + 1) // ROWS]):
        figures.merge(part)
        for seed, found in part.violations.items():
            told = story(shrink(plan_of(seed))) if not found[0].startswith("the simulation") else found[0]
            raise AssertionError(f"{told}\n{AGAIN.format(seed, seed + 1)}")


def test_the_worlds_are_under_attack_and_get_work_done(figures: Figures) -> None:
    """After the seeds above: every kind of world and of fault was met, and every window but those of no world."""
    assert figures.total("seeds") == len(SEEDS)
    assert kinds_of(SEEDS) == [kind.name for kind in KINDS]
    steps = {*STEPS, *(step for kind in KINDS for step in kind.steps)} - {"order", "order again", "wait"}
    assert set(figures.faults) == steps
    assert figures.total("effects") > 10 * len(SEEDS)
    assert figures.total("settled") > figures.total("effects")
    assert figures.total("takeovers") > len(SEEDS) // 2
    for window in ("W1", "W2", "W3", "W5"):
        assert figures.total(window) > 0, report(figures)
    assert figures.total("no window") == 0
    opened = {(kind, window) for kind, window in figures.counts if window in ("W3", "W5")}
    assert opened <= {(kind.name, window) for kind in KINDS for window in kind.windows}


@pytest.mark.parametrize("seed", range(len(KINDS)))
def test_a_seed_decides_everything(seed: int) -> None:
    """Also in another process, where sets and hashes come in another order."""
    script = "import sys; from digest import digest; print(digest(int(sys.argv[1])))"
    folder = Path(__file__).parent

    def digest_of(hash_seed: str) -> str:
        path = os.pathsep.join([str(folder), *sys.path])
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
        run = [sys.executable, "-c", script, str(seed)]
        return subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout.split()[-1]

    assert digest_of("1") == digest_of("2")
