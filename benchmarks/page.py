"""The page of the documentation, made from the figures of one run and never by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.goals import GOALS
from benchmarks.results import Row, Run, Section
from benchmarks.scenario import Metric

PUBLISHED = "benchmarks/results/published.json"
PAGE = "docs/benchmarks.md"
PLOT = "docs/benchmarks.png"

HEAD = """\
# Benchmarks

broker_bridge beside what one would write instead: same topics, same work, one machine, in one run. This page and its
plot are made by the command, from [the figures of one run](../benchmarks/results/published.json); do not edit them.

- A contender's result counts only when its work was checked: every result there, once, byte by byte what it has to be.
  Whoever loses or doubles one fails the run.
- Rounds are interleaved: each contender has its turn in each round. Shown is the median, and below it the range.
- Time and CPU run from the first record in hand to the last commit; starting and joining are a table of their own.
- Kafka, Redis and the contenders share the machine's cores, so what is spent beside the contender (a broker, a second
  process) takes from its speed.
"""


def publish(run: Run, root: Path) -> None:
    """Figures, page and plot. The plot is left as it is where matplotlib is missing: raises ``ImportError``."""
    from benchmarks.plot import draw

    run.write(root / PUBLISHED)
    published = Run.read(root / PUBLISHED)
    (root / PAGE).write_text(page(published), encoding="utf-8")
    draw(published, root / PLOT)


def page(run: Run) -> str:
    """The whole page."""
    parts = [HEAD, _how(run), _machine(run), "![The figures as bars and lines](benchmarks.png)\n", _goals(run)]
    return "\n".join([*parts, tables(run, level=2)])


def tables(run: Run, *, level: int = 3) -> str:
    """A table for each scenario."""
    return "\n".join("\n".join(_section(section, "#" * level)) for section in run.sections)


def _how(run: Run) -> str:
    return (
        "```bash\n"
        "make bench                          # everything, smaller and shorter: about ten minutes on two cores\n"
        "make bench BENCH='--scenario http'  # full length, one scenario\n"
        f"{run.command}\n"
        "```\n\n"
        f"The last line is the one that made this page: {run.mode} mode, {run.took_s / 60:.0f} minutes.\n"
    )


def _machine(run: Run) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in run.machine.items())
    return f"| | |\n|---|---|\n{rows}\n"


def _goals(run: Run) -> str:
    lines = ["## Goals", "", "| goal | found | |", "|---|---:|---|"]
    for goal in GOALS:
        value, met = goal.found(run), goal.met(run)
        shown = "not measured" if value is None else goal.shown.format(value)
        lines.append(f"| {goal.wanted} | {shown} | {'' if met is None else 'met' if met else 'not met'} |")
    return "\n".join([*lines, ""])


def _section(section: Section, mark: str) -> Iterator[str]:
    yield f"{mark} {section.title}"
    yield ""
    yield section.about
    yield ""
    headings = [section.varied] if section.varied else []
    headings += [metric.heading for metric in section.metrics]
    yield "| | " + " | ".join([*headings, _ratio_heading(section)]) + " |"
    yield "|---|" + "---:|" * (len(headings) + 1)
    for row in section.rows:
        cells = [row.point] if section.varied else []
        cells += [_cell(row, metric) for metric in section.metrics]
        ratio = section.ratio(row)
        yield f"| {row.title} | " + " | ".join([*cells, "" if ratio is None else f"{ratio:.2f} ×"]) + " |"
    yield ""
    for title, why in section.left_out.items():
        yield f"Left out: {title}: {why}."
        yield ""
    load = " to ".join(f"{one:.1f}" for one in section.load)
    rounds = max((len(row.rounds) for row in section.rows), default=0)
    yield f"`--scenario {section.name}`, {rounds} round{'s' * (rounds != 1)}, load {load}, {section.took_s:.0f} s."
    yield ""


def _ratio_heading(section: Section) -> str:
    metric = next(metric for metric in section.metrics if metric.key == section.ratio_of)
    base = section.row(section.base) if section.base else None
    against = _plain(base.title) if base else f"first {section.varied}"
    return f"{metric.heading} ÷ {against}"


def _plain(title: str) -> str:
    return title.replace("**", "")


def _cell(row: Row, metric: Metric) -> str:
    values = row.values(metric.key)
    median = row.median(metric.key)
    if median is None:
        return ""
    low, high = (_number(value, metric.decimals) for value in (min(values), max(values)))
    middle = _number(median, metric.decimals)
    return middle if low == high else f"{middle}<br><sub>{low}–{high}</sub>"


def _number(value: float, decimals: int) -> str:
    return f"{value:,.{decimals}f}".replace(",", " ")
