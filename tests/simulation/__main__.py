"""Simulations by hand.

::

    python tests/simulation --seeds 0:2000        these, then their figures
    python tests/simulation --seeds 190:191       one again: what broke, and the shortest way to it
    python tests/simulation --seconds 600         from a random seed on, for as long as told

Exit status 1 where an invariant was broken.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator

from figures import report
from runs import AGAIN, CHUNK, Figures, on_all_cores, run_on, silence
from shrink import shrink, story
from worlds import plan_of

_TELL_EVERY_S = 30.0
_MOST_STORIES = 3


def main() -> int:
    """Run what the arguments say."""
    arguments = _arguments()
    silence()
    figures, started = Figures(), time.monotonic()
    told = started
    with on_all_cores() as pool:
        for seeds in _lots(arguments, started):
            for part in run_on(pool, seeds):
                figures.merge(part)
            if figures.violations:
                break
            if time.monotonic() - told > _TELL_EVERY_S:
                told = time.monotonic()
                print(f"{figures.total('seeds'):,} seeds in {told - started:.0f} s, no violation", flush=True)
    print(report(figures))
    print(f"{figures.total('seeds'):,} seeds in {time.monotonic() - started:.0f} s")
    for seed, found in sorted(figures.violations.items())[:_MOST_STORIES]:
        print(f"\n{AGAIN.format(seed, seed + 1)}\n{_story(seed, found)}")
    return 1 if figures.violations else 0


def _story(seed: int, found: list[str]) -> str:
    try:
        return story(shrink(plan_of(seed)))
    except Exception as error:  # noqa: BLE001 - a run that fails by itself has no story
        return f"seed {seed}: {found[0]} ({error!r})"


def _lots(arguments: argparse.Namespace, started: float) -> Iterator[range]:
    """Rows of seeds, each a moment's work for every core."""
    first, last = arguments.seeds
    lot = 20 * CHUNK
    if arguments.seconds is None:
        yield from (range(at, min(at + lot, last)) for at in range(first, last, lot))
        return
    first = random.SystemRandom().randrange(1_000_000, 1_000_000_000)
    print(f"from seed {first:,} on, for {arguments.seconds:.0f} s", flush=True)
    while time.monotonic() - started < arguments.seconds:
        yield range(first, first + lot)
        first += lot


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/simulation", description="Run seeds of the simulation.")
    parser.add_argument("--seeds", type=_row, default=(0, 2_000), metavar="FIRST:LAST", help="default 0:2000")
    parser.add_argument("--seconds", type=float, help="from a random seed on, for so long")
    return parser.parse_args()


def _row(text: str) -> tuple[int, int]:
    first, _, last = text.partition(":")
    return int(first), int(last or int(first) + 1)


if __name__ == "__main__":
    sys.exit(main())
