"""One page of metrics of several processes: Prometheus wants all samples of a name together, under one heading."""

from __future__ import annotations

from collections.abc import Mapping


def merged(pages: Mapping[str, str], *, label: str) -> str:
    """The ``pages`` (in Prometheus' text format, as its client library writes it) as one, every sample with one more
    label: ``label="<name of its page>"``."""
    headings: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for name, page in pages.items():
        own: dict[str, list[str]] = {}
        family = ""
        for line in page.splitlines():
            if line.startswith(("# HELP ", "# TYPE ")):
                family = line.split(" ", 3)[2]
                own.setdefault(family, []).append(line)
            elif line and not line.startswith("#"):
                samples.setdefault(family, []).append(_labelled(line, f'{label}="{name}"'))
        headings = own | headings  # what several pages say of a family is said once
    lines = [line for family in headings for line in (*headings[family], *samples.get(family, ()))]
    return "".join(f"{line}\n" for line in lines)


def _labelled(sample: str, label: str) -> str:
    """``name value`` or ``name{labels} value``, with ``label`` first."""
    name, space, value = sample.partition(" ")
    if "{" not in name:
        return f"{name}{{{label}}}{space}{value}"
    name, _, rest = sample.partition("{")
    return f"{name}{{{label},{rest}" if not rest.startswith("}") else f"{name}{{{label}{rest}"
