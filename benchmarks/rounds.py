"""Runs scenarios: rounds outside, contenders inside, so that each meets the same weather."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Collection, Sequence

from benchmarks.lab import Lab
from benchmarks.results import Row, Run, Section
from benchmarks.scenario import Contender, Scenario, Trial

Say = Callable[[str], None]


def missing(contender: Contender) -> str | None:
    """Why a contender cannot take part here."""
    for need in contender.needs.split():
        program = need.removeprefix("program:")
        if need != program:
            if shutil.which(program) is None:
                return f"there is no {program} on this machine"
        elif importlib.util.find_spec(need) is None:
            return f"{need} is not installed (extra: bench)"
    return None


def run_all(
    scenarios: Sequence[Scenario], lab: Lab, run: Run, say: Say, *, only: Collection[str] | None = None
) -> None:
    """Every scenario in turn; ``run`` gains a section for each. Raises ``WrongWorkError``."""
    for scenario in scenarios:
        run.sections.append(run_one(scenario, lab, say, only=only))


def run_one(scenario: Scenario, lab: Lab, say: Say, *, only: Collection[str] | None = None) -> Section:
    """One scenario, interleaved; ``only`` these contenders."""
    began = time.monotonic()
    section = Section.of(scenario)
    section.load.append(os.getloadavg()[0])
    say(f"\n{scenario.name}: {scenario.title} (load {section.load[0]:.1f})")
    asked = [c for c in scenario.contenders if only is None or c.name in only]
    section.left_out = {c.title: why for c in asked if (why := missing(c))}
    taking_part = [c for c in asked if c.title not in section.left_out]
    for title, why in section.left_out.items():
        say(f"  left out: {title}: {why}")
    scenario.prepare(lab)
    points = scenario.points()
    rows = {(c.name, p.value): Row(c.name, c.title, p.value, p.title, c.against) for p in points for c in taking_part}
    for number in range(scenario.rounds):
        for point in points:
            for contender in taking_part:
                figures = scenario.measure(lab, Trial(scenario.name, contender, point, number))
                rows[contender.name, point.value].rounds.append(figures)
                say(f"  round {number + 1}  {contender.name:<16} {point.title:<16} {_told(scenario, figures)}")
    section.rows = list(rows.values())
    section.load.append(os.getloadavg()[0])
    section.took_s = time.monotonic() - began
    return section


def _told(scenario: Scenario, figures: dict[str, float]) -> str:
    shown = [m for m in scenario.metrics if m.key in figures]
    return "  ".join(f"{m.heading} {figures[m.key]:,.{m.decimals}f}" for m in shown)
