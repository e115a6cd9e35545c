"""The table of docs/chaos.md from what ``broker-bridge chaos run --json`` printed.

``python tests/docs/chaos_table.py RESULTS.json …`` writes it; of a fault that is in several files the last one counts.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "chaos.md"
BEGIN, END = "<!-- results: made by tests/docs/chaos_table.py -->\n", "<!-- end of results -->\n"
HEAD = """\
| fault | rows | acknowledged | effects | dead | lost | repeats | out of order | settled after | verdict |
|---|---|--:|--:|--:|--:|---|--:|--:|---|
"""
Fault = dict[str, Any]


def last_runs(paths: list[Path]) -> list[Fault]:
    """The last run of each fault, in the order of the catalogue."""
    from broker_bridge.chaos.faults.catalogue import FAULTS

    found = {fault["fault"]: fault for path in paths for fault in json.loads(path.read_text())["faults"]}
    return [found[name] for name in FAULTS if name in found]


def row(fault: Fault) -> str:
    """One line."""
    rows, verdict = ", ".join(map(str, fault["rows"])) or "–", fault["verdict"]
    if verdict is None:
        return f"| `{fault['fault']}` | {rows} | | | | | | | | skipped: {fault['skipped']} |\n"
    repeats = ", ".join(f"{count} {window}" for window, count in verdict["repeats"].items() if count) or "none"
    settled = "never" if fault["recovered_s"] is None else f"{fault['recovered_s']} s"
    figures = " | ".join(f"{verdict[name]:,}" for name in ("acknowledged", "effects", "dead", "losses"))
    held = "held" if verdict["passed"] else "**violated**: " + ", ".join(verdict["violations"])
    return f"| `{fault['fault']}` | {rows} | {figures} | {repeats} | {verdict['disorders']} | {settled} | {held} |\n"


def summary(faults: list[Fault]) -> str:
    """The sums."""
    judged = [fault["verdict"] for fault in faults if fault["verdict"] is not None]
    sums = {name: sum(one[name] for one in judged) for name in ("acknowledged", "effects", "dead", "losses")}
    repeats: Counter[str] = Counter()
    for one in judged:
        repeats.update(one["repeats"])
    listed = ", ".join(f"{count} {window}" for window, count in repeats.items() if count) or "none"
    return (
        f"{len(judged)} faults: {sums['acknowledged']:,} records acknowledged, {sums['effects']:,} effects, "
        f"{sums['dead']:,} dead letters, **{sums['losses']} lost, "
        f"{sum(one['unexplained'] for one in judged)} repeats without a window**; repeats by window: {listed}. "
        f"Held under {sum(one['passed'] for one in judged)} of them.\n"
    )


def main() -> None:
    """Write it."""
    faults = last_runs([Path(name) for name in sys.argv[1:]])
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    made = summary(faults) + "\n" + HEAD + "".join(row(fault) for fault in faults)
    PAGE.write_text(before + BEGIN + made + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
