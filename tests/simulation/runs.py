"""Running many seeds: in this process or on every core, with figures of what was met on the way."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import structlog
from shop_world import ShopWorld, simulate
from worlds import kind_of

from broker_bridge.testing.history import Effect, Fault, Granted, Settled, Started, Written

CHUNK = 20
AGAIN = "once more: python tests/simulation --seeds {0}:{1}"


@dataclass
class Figures:
    """What came of runs. ``violations`` is by seed; ``counts`` is by (kind of world, what)."""

    violations: dict[int, list[str]] = field(default_factory=dict)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, shop: ShopWorld) -> None:
        """One run more."""
        kind = shop.plan.kind.name
        if shop.found:
            self.violations[shop.plan.seed] = shop.found
        counted: Counter[str] = Counter(seeds=1)
        for _, event in shop.history:
            match event:
                case Written(record) if record.topic == shop.checker.terms.topic:
                    counted["records"] += 1
                case Started():
                    counted["executions"] += 1
                case Effect():
                    counted["effects"] += 1
                case Settled():
                    counted["settled"] += 1
                case Granted():
                    counted["takeovers"] += event.crashes > 0
                case Fault(what) if what != "healed":
                    self.faults[what] += 1
        counted["events"] = len(shop.history.events)
        counted["lost"] = sum(text.startswith("I1 ") for text in shop.found)
        counted["dead"] = len(shop.checker.letters)
        for window, count in shop.checker.repeats.items():
            counted[window or "no window"] += count
        self.counts.update({(kind, what): count for what, count in counted.items()})

    def merge(self, other: Figures) -> None:
        """These and those."""
        self.violations.update(other.violations)
        self.counts.update(other.counts)
        self.faults.update(other.faults)

    def total(self, what: str) -> int:
        """Over all kinds of worlds."""
        return sum(count for (_, name), count in self.counts.items() if name == what)


def silence() -> None:
    """Drop log events before they are rendered: thousands of warnings about faults made on purpose help nobody."""

    def drop(_: object, __: str, ___: Any) -> Any:
        raise structlog.DropEvent

    structlog.configure(processors=[drop], cache_logger_on_first_use=False)


def run(seeds: Iterable[int]) -> Figures:
    """Run these here, one after the other."""
    figures = Figures()
    for seed in seeds:
        try:
            figures.add(simulate(seed))
        except Exception as error:  # noqa: BLE001 - the seed that does it is the finding
            figures.violations[seed] = [f"the simulation itself failed: {error!r}"]
    return figures


def on_all_cores() -> ProcessPoolExecutor:
    """Processes that share nothing with this one."""
    return ProcessPoolExecutor(
        max_workers=os.cpu_count(), mp_context=multiprocessing.get_context("spawn"), initializer=silence
    )


def run_on(pool: ProcessPoolExecutor, seeds: Sequence[int]) -> Iterator[Figures]:
    """Run these on the pool's processes, some at a time, and tell of each lot as it ends."""
    return pool.map(run, [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)])


def kinds_of(seeds: Iterable[int]) -> list[str]:
    """The kinds of worlds these seeds are of, in order."""
    return list(dict.fromkeys(kind_of(seed).name for seed in seeds))
