"""The books on a screen, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broker_bridge.cli.output import table
from broker_bridge.core.audit import Listing, Outcome
from broker_bridge.core.duration import format_duration
from broker_bridge.core.reconcile import SIDES
from broker_bridge.text import printable

if TYPE_CHECKING:
    from rich.console import Console

    from broker_bridge.cli.operator_scope import Suggest
    from broker_bridge.core.reconcile import Discrepancy, Reconciliation
    from broker_bridge.replay.audit import AuditReport
    from broker_bridge.replay.audit_round import AuditRound

LISTED = 10
_COUNTS = (
    "lines", "applied", "repeats", "repeats_explained", "told_again", "refused", "fenced", "forced", "unsettled",
    "foreign",
)  # fmt: skip


def audit_result(found: AuditRound, *, suggest: Suggest) -> dict[str, Any]:
    """Everything as JSON types."""
    report, target, against = found
    books = report.books
    result: dict[str, Any] = {
        "route": report.route,
        "group": report.group,
        "topic": report.topic,
        "balanced": not against,
        "objections": [one.text for one in against],
        "drained": books.drained,
        "produced": books.produced.total(),
        **{outcome.value: books.total(outcome) for outcome in Outcome},
        "not_in_log": report.not_in_log,
        "partitions": [
            {
                "partition": tp.partition,
                "from_offset": report.start[tp],
                "to_offset": report.end[tp],
                "produced": books.produced[tp.partition],
                **{outcome.value: books.count(tp.partition, outcome) for outcome in Outcome},
            }
            for tp in sorted(report.start)
        ],
        "unaccounted_records": [
            {**one._asdict(), "position": str(one.position), "command": suggest(*one.command) if one.command else ""}
            for one in books.unaccounted
        ],
        "outputs": None,
        "target": None,
    }
    if report.outputs is not None:
        missing = report.outputs.missing
        result["outputs"] = {
            "expected": report.outputs.expected,
            "seen": report.outputs.seen,
            "missing": len(missing),
            "missing_for": [str(position) for position in missing.kept[:100]],
            "repeated": report.outputs.repeated,
            "unexpected": report.outputs.unexpected,
        }
    if target is not None:
        result["target"] = _target_json(target)
    return result


def _target_json(target: Reconciliation) -> dict[str, Any]:
    counts: dict[str, Any] = {name: getattr(target, name) for name in _COUNTS}
    for side in SIDES:
        found: Listing[Discrepancy] = getattr(target, side)
        counts[side] = len(found)
        counts[f"{side}_list"] = [
            {"key": one.key, "position": str(one.position) if one.position else None, "line": one.line, "why": one.why}
            for one in found.kept[:100]
        ]
    return {"balanced": target.balanced, **counts}


def print_audit(console: Console, found: AuditRound, *, suggest: Suggest) -> None:
    """The same for people: one table, then only what needs a person, then the verdict."""
    report, target, _ = found
    books = report.books
    shown = [o for o in Outcome if books.total(o) or o in (Outcome.COMPLETED, Outcome.DEAD, Outcome.UNACCOUNTED)]
    columns = ("partition", "produced", *(outcome.value.replace("_", " ") for outcome in shown))
    rows = [
        (tp.partition, *_row(books.produced[tp.partition], [books.count(tp.partition, o) for o in shown]))
        for tp in sorted(report.start)
    ]
    rows.append(("total", *_row(books.produced.total(), [books.total(o) for o in shown])))
    console.print(f"Route {report.route}: topic {report.topic}, group {report.group}", soft_wrap=True)
    console.print(table(columns, rows, right=columns[1:]))
    if report.not_in_log:
        _say(console, f"{report.not_in_log:,} records are not in the log any more and were not audited.")
    for one in books.unaccounted[:LISTED]:
        _say(console, f"\nunaccounted {one.position}: {one.why}\n  help: {one.remedy}")
        if one.command:
            _say(console, f"  {suggest(*one.command)}")
    _more(console, books.total(Outcome.UNACCOUNTED))
    if forgotten := books.total(Outcome.FORGOTTEN):
        younger = format_duration(report.forgotten_after_ms)
        _say(
            console,
            f"\n{forgotten:,} are older than their claims are kept, and nothing else tells what became of them.\n"
            f"  help: audit a younger range: {suggest('audit', '--since', younger)}",
        )
    if report.outputs is not None:
        _print_outputs(console, report)
    if target is not None:
        _print_target(console, target)
    console.print(f"\n{verdict_line(found)}", style="bold", soft_wrap=True)
    if books.total(Outcome.DEAD):
        _say(console, f"What the dead letters say: {suggest('dlq', 'groups')}")


def verdict_line(found: AuditRound) -> str:
    """Whether the books balance, and how they add up."""
    books = found.report.books
    against = "; ".join(one.text for one in found.objections)
    verdict = f"The books do NOT balance ({against})" if against else "The books balance"
    total = " + ".join(f"{books.total(o):,} {o.value.replace('_', ' ')}" for o in Outcome if books.total(o)) or "0"
    return f"{verdict}: {books.produced.total():,} produced = {total}."


def _row(produced: int, counts: list[int]) -> list[str]:
    return [f"{produced:,}", *(f"{count:,}" if count else "·" for count in counts)]


def _print_outputs(console: Console, report: AuditReport) -> None:
    tally = report.outputs
    assert tally is not None
    missing = tally.missing
    _say(
        console,
        f"\nResults: {tally.seen:,} read for {tally.expected:,} completed records; "
        f"{len(missing):,} missing, {tally.repeated:,} repeated (same id), {tally.unexpected:,} of other records.",
    )
    for position in missing.kept[:LISTED]:
        _say(console, f"  no result for {position}")
    _more(console, len(missing))


def _print_target(console: Console, target: Reconciliation) -> None:
    _say(
        console,
        f"\nTarget: {target.applied:,} keys applied in {target.lines:,} lines; {target.repeats:,} deliveries repeated "
        f"({target.repeats_explained:,} announced), {target.refused:,} refused, {target.fenced:,} fenced, "
        f"{target.forced:,} forced by a replay, {target.foreign:,} of other records.",
    )
    titles = {
        "missing": "completed, but the target never applied them",
        "extra": "applied, but the books say otherwise",
        "late": "applied too late",
        "unexplained": "delivered again without a word",
        "disordered": "applied out of order",
        "uncertain": "dead letters whose effect was uncertain, and did happen",
    }
    for side, title in titles.items():
        found: Listing[Discrepancy] = getattr(target, side)
        if not found:
            continue
        _say(console, f"  {len(found):,} {title}:")
        for one in found.kept[:LISTED]:
            line = f" (line {one.line})" if one.line else ""
            _say(console, f"    {one.position or one.key}{line}: {one.why}")
        _more(console, len(found))


def _more(console: Console, count: int) -> None:
    if count > LISTED:
        _say(console, f"    … and {count - LISTED:,} more; --json lists them")


def _say(console: Console, text: str) -> None:
    console.print(printable(text, keep_newlines=True), soft_wrap=True)
