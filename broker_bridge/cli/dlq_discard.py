"""``broker-bridge dlq discard``: dead letters whose messages will never be handled."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from broker_bridge.cli.confirmation import confirm_count
from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.operator_scope import (
    Suggest,
    open_scope,
    route_option,
    selection_of,
    selection_options,
    suggester,
)
from broker_bridge.cli.output import config_option, emit, json_option, note, read_config, run_async
from broker_bridge.errors import UsageError

if TYPE_CHECKING:
    from broker_bridge.cli.operator_scope import OperatorScope
    from broker_bridge.config import BridgeConfig
    from broker_bridge.core.letters import Selection
    from broker_bridge.replay.dead_letters import Bounds, DeadLetters
    from broker_bridge.replay.discard import Discarder, DiscardReport


class _Wishes(NamedTuple):
    selection: Selection
    why: str
    allow_expired: bool
    discard_id: str


class _Found(NamedTuple):
    route: str
    report: DiscardReport
    bounds: Bounds
    not_compared: list[str]


@click.command("discard")
@config_option
@route_option
@selection_options
@click.option("--why", required=True, metavar="TEXT", help="Why they will never be handled; recorded.")
@click.option(
    "--allow-expired", is_flag=True, help="Also letters whose claim is gone: nobody knows what became of them."
)
@click.option("--execute", is_flag=True, help="Discard. Without it only tells what would be discarded.")
@click.option(
    "--confirm-count", "count", type=click.IntRange(min=0), metavar="N", help="How many letters are to be discarded."
)
@click.option("--yes", is_flag=True, help="Do not ask for the count.")
@json_option
def discard(
    *,
    config_path: Path,
    route_name: str | None,
    why: str,
    allow_expired: bool,
    execute: bool,
    count: int | None,
    yes: bool,
    as_json: bool,
    **given: Any,
) -> ExitCode:
    """Decide that the messages of dead letters will never be handled; without --execute only tell which.

    The letters stay in their topic; their claims say that they were discarded. No plan picks them up again, a replayed
    copy that is still on its way is dropped, and a key that a letter holds is free. Only replay plan --force executes
    them after that. Who discarded which letters, and why, is recorded before it happens: see broker-bridge history.
    What a worker has in hand is left alone, and told.

    \b
    Example:
      broker-bridge dlq discard --code deadline_passed --until 7d --why "orders of last week, refunded by hand"
      broker-bridge dlq discard --code deadline_passed --until 7d --why "…" --execute --confirm-count 42

    \b
    Exit status: 0 done · 1 some are in a worker's hand and were left · 2 no reason, or the count is not confirmed
                 3 no such route or topic · 4 Kafka or Redis unavailable: give it again · 130 stopped: give it again
    """
    if not why.strip():
        raise UsageError("a discard needs a reason", remedy='say why: --why "refunded by hand"')
    config = read_config(config_path)
    wishes = _Wishes(selection_of(given), why.strip(), allow_expired, f"discard-{secrets.token_hex(8)}")
    found = run_async(_look(config, route_name, wishes))
    report = found.report
    if execute:
        _confirm(report, count, yes=yes)
        report = run_async(_discard(config, wishes, found))
    result = {
        "route": found.route,
        "id": report.discard_id,
        "executed": execute,
        "stopped": report.was_stopped,
        "counts": report.counts,
        "not_compared": found.not_compared,
    }
    emit(result, human=_text(report, suggester(config, config_path, found.route), execute=execute))
    for sentence in found.not_compared:
        note(sentence)
    if report.was_stopped:
        return ExitCode.INTERRUPTED
    return ExitCode.NO if execute and report.in_hand else ExitCode.OK


async def _look(config: BridgeConfig, route_name: str | None, wishes: _Wishes) -> _Found:
    """What there is to be discarded now. What dies later is not meant: nobody has seen it."""
    from broker_bridge.cli.progress import Progress

    async with open_scope(config, route_name) as scope:
        letters = scope.dead_letters()
        bounds = await letters.ends()
        with Progress("looking", unit="letters") as progress:
            report = await _discarder(scope, letters, wishes).preview(
                wishes.selection,
                allow_expired=wishes.allow_expired,
                bounds=bounds,
                progress=lambda report: progress.update(report.fates.total()),
            )
        return _Found(scope.route.name, report, bounds, letters.not_compared.sentences())


async def _discard(config: BridgeConfig, wishes: _Wishes, found: _Found) -> DiscardReport:
    from broker_bridge.cli.progress import Progress
    from broker_bridge.cli.stop_signals import stop_event

    selected = found.report.fates.total()
    async with open_scope(config, found.route) as scope:
        with stop_event() as stop, Progress("discarding", total=selected, unit="letters") as progress:
            return await _discarder(scope, scope.dead_letters(), wishes).discard(
                wishes.selection,
                allow_expired=wishes.allow_expired,
                bounds=found.bounds,
                expected=found.report.counts,
                stop=stop,
                progress=lambda report: progress.update(report.fates.total(), discarded=report.discarded),
            )


def _discarder(scope: OperatorScope, letters: DeadLetters, wishes: _Wishes) -> Discarder:
    from broker_bridge.core.discard import LISTING
    from broker_bridge.core.operation import Action
    from broker_bridge.core.recorded_selection import recorded_selection
    from broker_bridge.replay.discard import Discarder

    async def record(phase: str, counts: Mapping[str, int], places: Sequence[str]) -> None:
        told: dict[str, object] = {"phase": phase}
        if phase == LISTING:
            told["places"] = places
        else:
            told |= {"selection": recorded_selection(wishes.selection), "allow_expired": wishes.allow_expired}
        operation = scope.operation(
            Action.LETTERS_DISCARDED, why=wishes.why, plan_id=wishes.discard_id, counts=counts, details=told
        )
        await scope.operations.record(operation)

    return Discarder(
        letters=letters,
        store=scope.store,
        route=scope.route,
        clock=scope.clock,
        record=record,
        discard_id=wishes.discard_id,
    )


def _confirm(report: DiscardReport, count: int | None, *, yes: bool) -> None:
    from broker_bridge.core.discard import Fate

    there_are = report.fates[Fate.TO_DISCARD]
    confirm_count(there_are, count, yes=yes, about="letters to discard", undone="nothing was discarded")


_TOLD = {
    "to_discard": "would be discarded",
    "discarded": "discarded",
    "already_discarded": "were discarded before",
    "completed": "completed since, or were turned away as stale: nothing to do",
    "superseded": "are older letters of a message that died again",
    "in_hand": "left alone: a worker has the message, or it waits in a retry lane",
    "key_conflict": "left alone: their idempotency key is another message's",
    "claim_expired": "left alone: their claim is gone (--allow-expired takes them in)",
}


def _text(report: DiscardReport, suggest: Suggest, *, execute: bool) -> str:
    counts = report.counts
    lines = [f"{counts['selected']:>8,} dead letters selected"]
    lines += [f"{counts[name]:>8,} {told}" for name, told in _TOLD.items() if name in counts]
    if not execute:
        lines += ["", "Nothing was written."]
        if count := counts.get("to_discard"):
            lines.append(f"To discard them, add:  --execute --confirm-count {count}")
    else:
        if report.was_stopped:
            lines += ["", "Stopped. To go on, give the same command again."]
        lines += ["", f"Which they were:  {suggest('history', '--plan', report.discard_id)}"]
    return "\n".join(lines)
