"""Results of chaos runs on a screen, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker_bridge.chaos.experiment import Result
from broker_bridge.chaos.faults.catalogue import FAULTS
from broker_bridge.chaos.verdict import Window
from broker_bridge.cli.output import table
from broker_bridge.text import printable

if TYPE_CHECKING:
    from rich.console import Console

LISTED = 5
_COLUMNS = ("fault", "sent", "effects", "dead", "lost", *(window.value for window in Window), "unexplained",
            "order", "recovered", "verdict")  # fmt: skip


def catalogue_rows() -> list[dict[str, object]]:
    """Every fault as JSON types."""
    return [
        {"name": fault.name, "title": fault.title, "rows": list(fault.rows), "brokers": fault.brokers}
        for fault in FAULTS.values()
    ]


def print_catalogue(console: Console) -> None:
    """Every fault as a table."""
    rows = [
        (fault.name, fault.title, fault.brokers, ", ".join(map(str, fault.rows)) or "·") for fault in FAULTS.values()
    ]
    console.print(table(("fault", "what happens", "brokers", "rows of the fault matrix"), rows, right=("brokers",)))


def results_json(results: Sequence[Result], *, seed: int) -> dict[str, Any]:
    """Everything as JSON types."""
    judged = [result for result in results if result.verdict is not None]
    return {
        "passed": all(result.verdict is None or result.verdict.passed for result in results),
        "seed": seed,
        "run": len(judged),
        "skipped": len(results) - len(judged),
        "faults": [_result_json(result) for result in results],
    }


def _result_json(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = {
        "fault": result.fault, "title": result.title, "rows": list(result.rows), "skipped": result.skipped or None,
        "took_s": round(result.took_s, 1), "recovered_s": _rounded(result.recovered_s),
        "deaths": result.deaths, "logged": result.facts, "verdict": None,
    }  # fmt: skip
    verdict = result.verdict
    if verdict is not None:
        found["verdict"] = {
            "passed": verdict.passed, "sent": verdict.sent, "acknowledged": verdict.acknowledged,
            "effects": verdict.effects, "keys": verdict.keys, "dead": verdict.dead, "losses": verdict.losses,
            "repeats": {window.value: verdict.repeats[window] for window in Window},
            "unexplained": verdict.unexplained, "disorders": verdict.disorders,
            "violations": dict(verdict.counts),
            "findings": [finding._asdict() for finding in verdict.findings],
        }  # fmt: skip
    return found


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def print_results(console: Console, results: Sequence[Result], *, keep: Path | None) -> None:
    """One row a fault, then what is wrong, then the verdict on all."""
    console.print(table(_COLUMNS, [_row(result) for result in results], right=_COLUMNS[1:-1]))
    for result in results:
        _print_findings(console, result)
    failed = [result.fault for result in results if result.verdict is not None and not result.verdict.passed]
    judged = sum(result.verdict is not None for result in results)
    text = f"VIOLATED under {', '.join(failed)}" if failed else f"The guarantee held under all {judged} faults"
    console.print(f"\n{text}.", style="bold", soft_wrap=True)
    if keep is not None:
        console.print(printable(f"Logs and evidence: {keep}"), soft_wrap=True)


def _row(result: Result) -> list[str]:
    verdict = result.verdict
    if verdict is None:
        return [result.fault, *("" for _ in _COLUMNS[2:]), "skipped"]
    recovered = "never" if result.recovered_s is None else f"{result.recovered_s:.1f} s"
    counts = [verdict.losses, *(verdict.repeats[window] for window in Window), verdict.unexplained, verdict.disorders]
    shown = [f"{count:,}" if count else "·" for count in counts]
    figures = [f"{verdict.sent:,}", f"{verdict.effects:,}", f"{verdict.dead:,}"]
    return [result.fault, *figures, *shown, recovered, "passed" if verdict.passed else "VIOLATED"]


def _print_findings(console: Console, result: Result) -> None:
    if result.skipped:
        console.print(printable(f"{result.fault} was skipped: {result.skipped}"), soft_wrap=True)
    if result.verdict is None or result.verdict.passed:
        return
    console.print(f"\n{result.fault}: {result.title}", style="bold", soft_wrap=True)
    listed: Counter[str] = Counter()
    for finding in result.verdict.findings:
        listed[finding.kind] += 1
        if listed[finding.kind] <= LISTED:
            console.print(printable(f"  {finding.kind}: {finding.detail}"), soft_wrap=True)
    for kind, count in result.verdict.counts.items():
        if count > LISTED:
            console.print(printable(f"  {kind}: {count:,} in all"), soft_wrap=True)
