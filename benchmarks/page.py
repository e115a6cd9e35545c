"""The page of the documentation, made from the figures of one run and never by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.goals import GOALS
from benchmarks.results import Row, Run, Section
from benchmarks.scenario import Metric

PUBLISHED = "benchmarks/results/published.json"
PAGE = "docs/benchmarks.md"
PLOT = "docs/benchmarks.png"

HEAD = """\
# Benchmarks

broker_bridge beside what one would write instead: same topics, same work, same machine, each table in one run. This
page and its plot are made by the command, from [the figures it found](../benchmarks/results/published.json); do not
edit them.

- A contender's result counts only when its work was checked: every result there, once, byte by byte what it has to be.
  Whoever loses or doubles one fails the run.
- Rounds are interleaved: each contender has its turn in each round. Shown is the median, and below it the range.
- Time and CPU run from the first record in hand to the last commit; starting and joining are a table of their own.
- Below each table stands the load. Where it is well above the number of cores, others used them meanwhile: rates and
  latencies then say as much of the neighbours as of the contenders, and a goal may be missed or met by chance. CPU each
  suffers least.
- Kafka, Redis and the contenders share the machine's cores, so what is spent beside the contender (a broker, a second
  process) takes from its speed.
"""


def publish(run: Run, root: Path, order: Sequence[str]) -> None:
    """Figures, page and plot; scenarios that this run left out stay as they were published before.

    Raises ``ImportError`` where matplotlib is missing, before anything is written.
    """
    from benchmarks.plot import draw

    earlier = root / PUBLISHED
    merged = run.over(Run.read(earlier), order) if earlier.exists() else run
    merged.write(earlier)
    published = Run.read(earlier)
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
        "The last line wrote this page last; below each table stands when and at which load it was measured.\n"
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
    headings += [_ratio_heading(section, key) for key in section.ratios]
    yield "| | " + " | ".join(headings) + " |"
    yield "|---|" + "---:|" * len(headings)
    for row in section.rows:
        cells = [row.point] if section.varied else []
        cells += [_cell(row, metric) for metric in section.metrics]
        ratios = [section.ratio(row, key) for key in section.ratios]
        cells += ["" if ratio is None else f"{ratio:.2f} ×" for ratio in ratios]
        yield f"| {row.title} | " + " | ".join(cells) + " |"
    yield ""
    for title, why in section.left_out.items():
        yield f"Left out: {title}: {why}."
        yield ""
    load = " to ".join(f"{one:.1f}" for one in section.load)
    rounds = max((len(row.rounds) for row in section.rows), default=0)
    yield (
        f"`--scenario {section.name}`, {section.mode}, {rounds} round{'s' * (rounds != 1)}, {section.when}, "
        f"load {load}, {section.took_s:.0f} s."
    )
    yield ""


def _ratio_heading(section: Section, key: str) -> str:
    metric = next(metric for metric in section.metrics if metric.key == key)
    base = section.row(section.base) if section.base else None
    against = _plain(base.title) if base else f"the first of {section.varied}"
    if any(row.against for row in section.rows):
        against = "the same by hand"
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
