"""The table at the end: what was sent, what broke, what became of everything, and whether the books balance."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from demo.checks import repeats_are_announced
from demo.faults import Fault
from demo.operator_commands import short
from demo.places import RunFolder
from demo.screen import LiveScreen, Screen, plain_console
from demo.story import Outcome

OFFENDERS_SHOWN = 3
CAUSES = {
    "worker_crash": "after a worker's crash (W1)",
    "retry": "retries",
    "replay": "replays",
    "unannounced": "UNANNOUNCED",
    "fenced": "turned away as stale",
}


def print_final_table(outcome: Outcome, folder: RunFolder, screen: Screen) -> None:
    """Print it on the screen's console."""
    console = screen.console if isinstance(screen, LiveScreen) else plain_console()
    console.print()
    _rows(console, "What was sent", sent_rows(outcome))
    if outcome.faults:
        _rows(console, "What broke meanwhile", fault_rows(outcome))
    _rows(console, "What became of it", fate_rows(outcome))
    _rows(console, "Compared with Kafka and with payments' own log", check_rows(outcome))
    console.print(Text(f"Times: {times(screen.phases)}", style="dim"), soft_wrap=True)
    for line in ending(outcome, folder):
        console.print(line, soft_wrap=True)


def _rows(console: Console, title: str, rows: Iterable[tuple[str, str, str]]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(overflow="fold")
    for name, number, words in rows:
        style = "red" if name.startswith("✗") else "green" if name.startswith("✓") else ""
        table.add_row(Text(name, style=style), Text(number, style="bold"), Text(words))
    console.print(Text(title, style="bold underline" if console.is_terminal else ""))
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    console.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def sent_rows(outcome: Outcome) -> list[tuple[str, str, str]]:
    """By orders, as Kafka acknowledged it."""
    stream, languages = outcome.stream, outcome.languages
    kinds, versions = stream["kinds"], stream["schema_versions"]
    garbled, unknown = kinds.get("poison-bytes", 0), kinds.get("poison-schema-id", 0)
    deployed = f"{versions.get('1', 0):,} under schema v1, then {versions.get('2', 0):,} under v2"
    return [
        ("  orders", f"{stream['events']:,}", f"by orders ({languages['orders']}): {deployed}"),
        ("  sent twice", f"{stream['duplicates']:,}", "with the same id"),
        ("  poison", f"{garbled + unknown:,}", f"{garbled} that are not Avro, {unknown} with an unknown schema id"),
        (
            "  declined",
            f"{kinds.get('rejected', 0):,}",
            f"valid, but payments ({languages['payments']}) refuses the card",
        ),
    ]


def fault_rows(outcome: Outcome) -> list[tuple[str, str, str]]:
    """Each trouble with its time since the stream began, and what the workers' logs say of that time."""
    rows = []
    for index, fault in enumerate(outcome.faults):
        begun = fault.begun_s or 0.0
        after = outcome.faults[index + 1].begun_s if index + 1 < len(outcome.faults) else None
        when = f"{begun - outcome.stream_began_s:.1f} s"
        rows.append((f"  {fault.title}", when, consequences(outcome, fault, after or time.time())))
    return rows


def consequences(outcome: Outcome, fault: Fault, until_s: float) -> str:
    """What followed from a fault, from the logs."""
    watch, begun = outcome.watch, fault.begun_s or 0.0
    assert watch is not None

    def count(event: str, to_s: float = until_s) -> int:
        return len(watch.between(event, begun, to_s))

    lasted = f"{(fault.ended_s or begun) - begun:.1f} s"
    if fault.name == "worker":
        moved = [one.at_s for one in watch.between("partitions_assigned", begun, float("inf"))]
        taken = count("claim_taken_over", float("inf"))
        wait = f"after {min(moved) - begun:.1f} s" if moved else "never"
        return f"{taken:,} messages taken over from its hands, its partitions {wait}"
    if fault.name == "redis":
        paused = len({one.worker for one in watch.between("route_paused", begun, until_s)})
        return f"{lasted}; {paused} of 2 workers paused until it was back"
    return f"{lasted}; {count('attempt_failed'):,} attempts failed, the breaker opened {count('breaker_opened')} times"


def fate_rows(outcome: Outcome) -> list[tuple[str, str, str]]:
    """The accounts, the dead letters, the repeats."""
    assert outcome.evidence is not None
    counts = {verdict.name: verdict.counts for verdict in outcome.verdicts}
    accounts, repeats = counts["accounts"], repeats_are_announced(outcome.evidence).counts
    causes = ", ".join(f"{number:,} {CAUSES[cause]}" for cause, number in repeats.items()) or "none"
    total = sum(number for cause, number in repeats.items() if cause != "fenced")
    groups = ", ".join(f"{one['count']} {one['target_code'] or one['code']}" for one in outcome.groups)
    replayed = sum(outcome.replay.get("counts", {}).values())
    return [
        ("  produced", f"{accounts['produced']:,}", "records"),
        ("= completed", f"{accounts['completed']:,}", f"applied by payments, {replayed:,} of them by the replay"),
        ("+ dead", f"{accounts['dead']:,}", f"kept whole for a person; before the replay: {groups}"),
        ("+ dropped", f"{accounts['dropped']:,}", "second sendings, recognised by their id"),
        ("  repeats", f"{total:,}", f"deliveries of a known key: {causes}"),
        (
            "  results",
            f"{counts['results']['results']:,}",
            f"PaymentCaptured events, {counts['results']['repeated']:,} of them published twice",
        ),
    ]


def check_rows(outcome: Outcome) -> list[tuple[str, str, str]]:
    """Each comparison and whether it holds, with the first offenders where it does not."""
    rows = []
    for verdict in outcome.verdicts:
        mark = "✓" if verdict.holds else "✗"
        rows.append((f"{mark} {verdict.name}", "" if verdict.holds else f"{len(verdict.offenders):,}", verdict.claim))
        rows += [("", "", f"    {offender}") for offender in verdict.offenders[:OFFENDERS_SHOWN]]
    return rows


def times(phases: dict[str, float]) -> str:
    """How long each phase took."""
    told = " · ".join(f"{name.replace('_', ' ')} {took_s:.1f}" for name, took_s in phases.items())
    return f"{told} · in all {sum(phases.values()):.1f} s"


def ending(outcome: Outcome, folder: RunFolder) -> list[Text]:
    """The verdict, and where everything is."""
    counts = {verdict.name: verdict.counts for verdict in outcome.verdicts}
    if outcome.holds:
        told = f"{counts['accounts']['produced']:,} records accounted for, nothing lost"
        verdict = Text(f"Everything holds: {told}, no effect twice, every cent as ordered.", style="bold green")
    else:
        failed = ", ".join(one.name for one in outcome.verdicts if not one.holds)
        verdict = Text(f"It does NOT hold: {failed}.", style="bold red")
    return [verdict, Text(f"Configuration, logs, report.json: {short(folder.root)}", style="dim")]
