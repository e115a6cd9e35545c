"""Figures of a run: medians, spreads and ratios; as JSON, and back from it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.scenario import Figures, Metric, Scenario


@dataclass
class Row:
    """One contender at one point: the figures of each round."""

    contender: str
    title: str
    value: float
    point: str
    against: str = ""
    rounds: list[Figures] = field(default_factory=list)

    def values(self, key: str) -> list[float]:
        """Of one metric, round by round; empty where this contender does not have it."""
        return [figures[key] for figures in self.rounds if key in figures]

    def median(self, key: str) -> float | None:
        """Of one metric, None where this contender does not have it."""
        values = self.values(key)
        return statistics.median(values) if values else None


@dataclass
class Section:
    """What one scenario found."""

    name: str
    title: str
    about: str
    varied: str
    metrics: list[Metric]
    ratios: list[str]
    base: str | None
    rows: list[Row] = field(default_factory=list)
    mode: str = ""
    when: str = ""
    left_out: dict[str, str] = field(default_factory=dict)
    load: list[float] = field(default_factory=list)
    took_s: float = 0.0

    @classmethod
    def of(cls, scenario: Scenario) -> Section:
        """The empty section of a scenario."""
        return cls(
            name=scenario.name,
            title=scenario.title,
            about=scenario.about,
            varied=scenario.varied,
            metrics=list(scenario.metrics),
            ratios=list(scenario.ratios),
            base=scenario.base,
            mode="quick" if scenario.quick else "full",
            when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )

    def row(self, contender: str, value: float | None = None) -> Row | None:
        """The row of that name, at that point or at the first."""
        return next((r for r in self.rows if r.contender == contender and value in (None, r.value)), None)

    def ratio(self, row: Row, key: str) -> float | None:
        """The row's median over its base's; None where there is no base, or where it is the base."""
        against = row.against or self.base
        base = self.row(against, row.value) if against else self.row(row.contender)
        if base is None or base is row:
            return None
        mine, theirs = row.median(key), base.median(key)
        return mine / theirs if mine is not None and theirs else None


@dataclass
class Run:
    """All of one run: where, how long, and every section."""

    machine: dict[str, str]
    command: str
    sections: list[Section] = field(default_factory=list)
    took_s: float = 0.0

    def section(self, name: str) -> Section | None:
        """The section of that scenario, if it was run."""
        return next((section for section in self.sections if section.name == name), None)

    def over(self, earlier: Run, order: Sequence[str]) -> Run:
        """This run, with the sections of an earlier one where this one has none."""
        found = {section.name: section for section in [*earlier.sections, *self.sections]}
        sections = [found[name] for name in order if name in found]
        return Run(self.machine, self.command, sections, self.took_s)

    def median(self, scenario: str, contender: str, key: str, value: float | None = None) -> float | None:
        """One figure, None where it was not measured."""
        section = self.section(scenario)
        row = section.row(contender, value) if section else None
        return row.median(key) if row else None

    def rows(self, scenario: str, contender: str) -> Iterator[Row]:
        """A contender's rows, point by point."""
        section = self.section(scenario)
        yield from (row for row in section.rows if row.contender == contender) if section else ()

    def write(self, path: Path) -> None:
        """As JSON, floats cut to what a reader can use."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_rounded(asdict(self)), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Run:
        """What ``write`` wrote."""
        found = json.loads(path.read_text(encoding="utf-8"))
        sections = [
            Section(
                **{
                    **section,
                    "metrics": [Metric(**metric) for metric in section["metrics"]],
                    "rows": [Row(**row) for row in section["rows"]],
                }
            )
            for section in found.pop("sections")
        ]
        return cls(**found, sections=sections)


def _rounded(value: Any) -> Any:
    """Five significant digits: no timer of a shared machine tells more."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value
