"""``broker-bridge replay run``: send what a plan says, or go on with it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.operator_scope import OperatorScope, open_scope, route_option, suggester
from broker_bridge.cli.output import config_option, emit, json_option, note, read_config, run_async, wants_json
from broker_bridge.cli.replay_pacing import away_by, limits_of, pacing_options
from broker_bridge.errors import UsageError

if TYPE_CHECKING:
    from broker_bridge.config import BridgeConfig
    from broker_bridge.core.replay_pace import PaceLimits
    from broker_bridge.replay.plan_file import Plan
    from broker_bridge.replay.run_report import RunReport
    from broker_bridge.replay.runner import ReplayRunner


@click.command("run")
@click.argument("plan_path", metavar="PLAN", type=click.Path(path_type=Path))
@config_option
@route_option
@click.option("--execute", is_flag=True, help="Send. Without it only tells what would be sent.")
@click.option("--confirm-count", type=click.IntRange(min=0), metavar="N", help="How many items the plan has.")
@click.option("--yes", is_flag=True, help="Do not ask for the count.")
@pacing_options
@json_option
def run(
    *,
    plan_path: Path,
    config_path: Path,
    route_name: str | None,
    execute: bool,
    confirm_count: int | None,
    yes: bool,
    as_json: bool,
    **given: Any,
) -> ExitCode:
    """Send what PLAN says, or go on with it; without --execute only tell what would be sent.

    A canary goes first: the run waits for what becomes of it. Then records go as fast as the group takes them. Each
    letter is checked to be there and the same before it is sent. The same command may be given again after Ctrl-C, a
    crash or an error: what was sent is not sent again. One run of a plan goes on at a time, on whatever machine.
    Who ran it, when and how it ended is shown by broker-bridge history --plan PLAN.

    \b
    Example:
      broker-bridge replay run vouchers.plan
      broker-bridge replay run vouchers.plan --execute --confirm-count 42 --rate 100

    \b
    Exit status: 0 done · 1 stopped: of the canary, or of the rest, too many died again, or it did not settle
                 2 the plan file is damaged, or the count is not confirmed · 3 no such file or route
                 4 Kafka or Redis unavailable: run it again · 5 refused · 130 stopped: run it again
    """
    from broker_bridge.cli.replay_run_view import run_text
    from broker_bridge.replay.plan_file import open_plan
    from broker_bridge.replay.run_report import RunEnd

    config = read_config(config_path)
    with open_plan(plan_path) as opened:
        suggest = suggester(config, config_path, opened.header.route)
        limits = limits_of(given, opened)
        if execute:
            opened.hold()
            _confirm(opened, confirm_count, yes=yes)
        route = route_name or opened.header.route
        report = run_async(_run(config, route, opened, limits if execute else None, given["worker_url"]))
        text = run_text(opened, report, execute=execute, suggest=suggest)
    result = {
        "plan": str(plan_path),
        "id": report.plan_id,
        "items": report.items,
        "executed": execute,
        "sent": report.sent,
        "end": report.end.value,
        "stopped": report.was_stopped,
        "canary": report.canary,
        "died_again": report.died,
        "headings": {heading.value: count for heading, count in sorted(report.headings.items())},
    }
    emit(result, human=text)
    if report.was_stopped:
        return ExitCode.INTERRUPTED
    return ExitCode.OK if report.end is RunEnd.DONE else ExitCode.NO


def _confirm(plan: Plan, count: int | None, *, yes: bool) -> None:
    """Have the operator say how many records the plan has; a number cannot be said by habit."""
    if yes:
        return
    items = plan.end.items
    if count is None and sys.stdin.isatty() and not wants_json():
        header = plan.header
        note(f"Plan {plan.id} by {header.by}, {header.created_at}: {header.why}\nDestination: {header.destination}")
        count = click.prompt(f"This plan has {items:,} items. To send them, type that number", type=int, err=True)
    if count is None:
        raise UsageError("the count is not confirmed", remedy=f"add --confirm-count {items}, or --yes")
    if count != items:
        raise UsageError(f"the plan has {items} items, not {count}; nothing was sent")


async def _run(
    config: BridgeConfig, route_name: str, plan: Plan, limits: PaceLimits | None, worker_url: str | None
) -> RunReport:
    """Run the plan within these limits; without any only look."""
    from broker_bridge.replay.runner import ReplayRunner

    async with open_scope(config, route_name, writes=limits is not None) as scope:
        runner = ReplayRunner(
            reader=scope.reader,
            producer=scope.producer,
            store=scope.store,
            route=scope.route,
            clock=scope.clock,
            contract=scope.letter_contract() if plan.header.edit is not None else None,
        )
        if limits is None:
            return await _preview(runner, plan)
        return await _send(runner, scope, plan, limits, worker_url)


async def _preview(runner: ReplayRunner, plan: Plan) -> RunReport:
    from broker_bridge.cli.progress import Progress

    with Progress("looking", total=plan.end.items, unit="items") as progress:
        return await runner.preview(plan, progress=lambda report: progress.update(report.looked_at))


async def _send(
    runner: ReplayRunner, scope: OperatorScope, plan: Plan, limits: PaceLimits, worker_url: str | None
) -> RunReport:
    from broker_bridge.cli.progress import Progress
    from broker_bridge.replay.pause_orders import PauseOrders
    from broker_bridge.replay.run_record import RunRecorder
    from broker_bridge.replay.sending import RunHooks

    stop, said = asyncio.Event(), False

    def waiting(left_ms: int) -> None:
        nonlocal said
        if not said:
            note(
                f"Another run of this plan holds it, or was killed; its lease ends in {left_ms / 1000:.0f} s. Waiting …"
            )
        said = True

    with _stopping(stop), Progress("replaying", total=plan.end.items, unit="items") as progress:
        hooks = RunHooks(
            stop=stop,
            progress=lambda report: progress.update(
                report.looked_at, sent=report.sent, dead_again=report.died, waits=report.waits_for or "no"
            ),
            recorder=RunRecorder(scope.operations, scope.operation, plan, limits),
            orders=PauseOrders(scope.operations, plan.id),
            target_is_away=away_by(worker_url, scope.route.name),
            waiting=waiting,
        )
        return await runner.send(plan, limits, hooks=hooks)


@contextmanager
def _stopping(stop: asyncio.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run after the batch in flight instead of in the middle of it."""
    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(wanted, stop.set)
    try:
        yield
    finally:
        for wanted in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(wanted)
