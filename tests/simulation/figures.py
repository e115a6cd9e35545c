"""Figures of runs as tables in Markdown, for a screen and for the documentation."""

from __future__ import annotations

from runs import Figures

_COUNTED = ("seeds", "records", "executions", "effects", "dead", "takeovers", "lost")
_COLUMNS = (*_COUNTED, "W1", "W2", "W3", "W5", "no window")


def report(figures: Figures) -> str:
    """What was run, by kind of world, and which faults."""
    kinds = list(dict.fromkeys(kind for kind, _ in figures.counts))
    rows = [("world", *_COLUMNS)]
    rows += [(kind, *(f"{figures.counts[kind, what]:,}" for what in _COLUMNS)) for kind in kinds]
    rows.append(("**all**", *(f"{figures.total(what):,}" for what in _COLUMNS)))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    faults = ", ".join(f"{what} {count:,}" for what, count in sorted(figures.faults.items(), key=lambda one: -one[1]))
    return "\n".join(
        [
            lines[0],
            "|---|" + "--:|" * len(_COLUMNS),
            *lines[1:],
            "",
            f"{figures.faults.total():,} faults: {faults}.",
            f"{figures.total('events'):,} events judged, {len(figures.violations)} seeds with a violation.",
        ]
    )
