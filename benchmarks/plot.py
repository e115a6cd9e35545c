"""The figures as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.results import Row, Run, Section

OURS, OTHERS, INK = "#0b6e4f", "#9aa5b1", "#333333"
RANGE = {"elinewidth": 1, "ecolor": "#66707a"}


def draw(run: Run, path: Path) -> None:
    """One picture with a panel for each scenario that says more as a picture than as a table."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    wanted = [(name, panel) for name, panel in PANELS.items() if run.section(name) is not None]
    rows = -(-len(wanted) // 2) or 1
    figure, axes = pyplot.subplots(rows, 2, figsize=(12, 3.7 * rows), squeeze=False, layout="constrained")
    for place, (name, panel) in zip(axes.flat, wanted, strict=False):
        section = run.section(name)
        assert section is not None
        place.set_title(section.title, fontsize=11, loc="left", color=INK, fontweight="bold")
        place.spines[["top", "right"]].set_visible(False)
        place.tick_params(labelsize=8, colors=INK)
        panel(place, section)
    for place in list(axes.flat)[len(wanted) :]:
        place.set_visible(False)
    where = run.machine.get("processor", "")
    figure.suptitle(f"{where}: medians, thin lines show the range of the rounds", fontsize=9, color=INK)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _bars(place: Any, section: Section) -> None:
    """One bar a contender, the best on top."""
    key = section.ratios[0]
    rows = sorted(section.rows, key=lambda row: row.median(key) or 0)
    middles = [row.median(key) or 0 for row in rows]
    colours = [_colour(row) for row in rows]
    place.barh([_label(row) for row in rows], middles, color=colours, xerr=_spread(rows, key), error_kw=RANGE)
    for index, row in enumerate(rows):
        end = max(row.values(key), default=0)
        place.annotate(f" {middles[index]:,.0f}".replace(",", " "), (end, index), va="center", fontsize=8, color=INK)
    place.set_xlabel(_heading(section, key), fontsize=8, color=INK)
    place.margins(x=0.18)


def _groups(place: Any, section: Section) -> None:
    """For each point and percentile one bar a contender."""
    contenders = list(dict.fromkeys(row.contender for row in section.rows))
    points = list(dict.fromkeys(row.value for row in section.rows))
    groups = [(point, metric) for point in reversed(points) for metric in reversed(section.metrics)]
    height = 0.8 / len(contenders)
    for number, contender in enumerate(contenders):
        rows = [section.row(contender, point) for point, _ in groups]
        middles = [
            (row.median(metric.key) if row else None) or 0 for row, (_, metric) in zip(rows, groups, strict=True)
        ]
        heights = [index - number * height for index in range(len(groups))]
        shown = next(row for row in rows if row is not None)
        place.barh(heights, middles, height=height, color=_colour(shown), label=_label(shown))
        for middle, at in zip(middles, heights, strict=True):
            place.annotate(f" {middle:.1f}", (middle, at), va="center", fontsize=7, color=INK)
    names = [f"{point:,.0f} {section.varied}, {metric.heading.split()[0]}" for point, metric in groups]
    place.set_yticks([index - height / 2 for index in range(len(groups))], names)
    place.set_xlabel("ms", fontsize=8, color=INK)
    place.margins(x=0.18)
    place.legend(fontsize=8, frameon=False)


def _lines(place: Any, section: Section) -> None:
    """Cost over what is varied; flat is good."""
    for name in dict.fromkeys(row.contender for row in section.rows):
        rows = [row for row in section.rows if row.contender == name]
        middles = [row.median("cpu_us") or 0 for row in rows]
        place.errorbar(
            [row.value for row in rows],
            middles,
            yerr=_spread(rows, "cpu_us"),
            marker="o",
            color=_colour(rows[0]),
            label=_label(rows[0]),
        )
    place.set_xscale("log")
    place.set_ylim(bottom=0)
    place.set_xlabel(section.varied, fontsize=8, color=INK)
    place.set_ylabel(_heading(section, "cpu_us"), fontsize=8, color=INK)
    place.legend(fontsize=8, frameon=False)


PANELS = {
    "throughput": _bars,
    "http": _bars,
    "latency": _groups,
    "producer": _bars,
    "backlog": _lines,
    "partitions": _lines,
}


def _label(row: Row) -> str:
    return row.title.replace("**", "").replace("`", "")


def _colour(row: Row) -> str:
    return OURS if row.title.startswith("**") else OTHERS


def _heading(section: Section, key: str) -> str:
    return next(metric.heading for metric in section.metrics if metric.key == key)


def _spread(rows: list[Row], key: str) -> list[list[float]]:
    """How far below and above the median each row's rounds went."""
    middles = [row.median(key) or 0 for row in rows]
    low = [middle - min(row.values(key), default=middle) for row, middle in zip(rows, middles, strict=True)]
    high = [max(row.values(key), default=middle) - middle for row, middle in zip(rows, middles, strict=True)]
    return [low, high]
