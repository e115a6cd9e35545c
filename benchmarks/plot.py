"""The figures as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.results import Row, Run, Section

OURS, OTHERS, INK = "#0b6e4f", "#9aa5b1", "#333333"


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
    figure.suptitle(f"{where}, {run.machine.get('when', '')}: medians, lines show the range", fontsize=9, color=INK)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _bars(place: Any, section: Section) -> None:
    """One bar a contender, the best at the bottom."""
    rows = sorted(section.rows, key=lambda row: row.median(section.ratios[0]) or 0)
    middles = [row.median(section.ratios[0]) or 0 for row in rows]
    place.barh(
        [_label(row) for row in rows], middles, color=[_colour(row) for row in rows], xerr=_ranges(rows, section)
    )
    for index, middle in enumerate(middles):
        place.annotate(f" {middle:,.0f}".replace(",", " "), (middle, index), va="center", fontsize=8, color=INK)
    place.set_xlabel(_heading(section, section.ratios[0]), fontsize=8, color=INK)
    place.margins(x=0.18)


def _groups(place: Any, section: Section) -> None:
    """Percentiles of each contender, point by point."""
    keys = [metric.key for metric in section.metrics]
    labels, middles, colours = [], [], []
    for row in section.rows:
        for key in keys:
            labels.append(f"{_label(row)}, {row.point}, {_heading(section, key).removesuffix(' ms')}")
            middles.append(row.median(key) or 0)
            colours.append(_colour(row))
    order = sorted(range(len(labels)), key=lambda index: (-_point_rank(labels[index]), index), reverse=True)
    place.barh([labels[i] for i in order], [middles[i] for i in order], color=[colours[i] for i in order])
    for index, i in enumerate(order):
        place.annotate(f" {middles[i]:.1f}", (middles[i], index), va="center", fontsize=7, color=INK)
    place.set_xlabel("ms", fontsize=8, color=INK)
    place.margins(x=0.18)
    place.tick_params(axis="y", labelsize=6)


def _point_rank(label: str) -> int:
    return len(label.split(",")[1])


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


def _ranges(rows: list[Row], section: Section) -> list[list[float]]:
    return _spread(rows, section.ratios[0])


def _spread(rows: list[Row], key: str) -> list[list[float]]:
    """How far below and above the median each row's rounds went."""
    middles = [row.median(key) or 0 for row in rows]
    low = [middle - min(row.values(key), default=middle) for row, middle in zip(rows, middles, strict=True)]
    high = [max(row.values(key), default=middle) - middle for row, middle in zip(rows, middles, strict=True)]
    return [low, high]
