"""``broker-bridge replay run``: send what a plan says, or go on with it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.operator_identity import user_name
from broker_bridge.cli.operator_scope import open_scope, route_option, suggester
from broker_bridge.cli.output import config_option, emit, json_option, note, read_config, run_async, wants_json
from broker_bridge.clock import SystemClock
from broker_bridge.errors import UsageError

if TYPE_CHECKING:
    from broker_bridge.config import BridgeConfig
    from broker_bridge.replay.plan_file import Plan
    from broker_bridge.replay.runner import ReplayRunner, RunReport

DEFAULT_RATE = 500.0


@click.command("run")
@click.argument("plan_path", metavar="PLAN", type=click.Path(path_type=Path))
@config_option
@route_option
@click.option("--execute", is_flag=True, help="Send. Without it only tells what would be sent.")
@click.option("--confirm-count", type=click.IntRange(min=0), metavar="N", help="How many items the plan has.")
@click.option("--yes", is_flag=True, help="Do not ask for the count.")
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), default=DEFAULT_RATE, show_default=True, help="Records a second."
)
@json_option
def run(
    *,
    plan_path: Path,
    config_path: Path,
    route_name: str | None,
    execute: bool,
    confirm_count: int | None,
    yes: bool,
    rate: float,
    as_json: bool,
) -> ExitCode:
    """Send what PLAN says, or go on with it; without --execute only tell what would be sent.

    Checks first that the plan was not changed and that every letter is still there and the same. The same command may
    be given again after Ctrl-C, a crash or an error: what was sent is not sent again. Who ran it, when and how it ended
    is added to PLAN.runs.

    \b
    Example:
      broker-bridge replay run vouchers.plan
      broker-bridge replay run vouchers.plan --execute --confirm-count 42 --rate 100

    \b
    Exit status: 0 done · 2 the plan file is damaged, or the count is not confirmed · 3 no such file or route
                 4 Kafka or Redis unavailable: run it again · 5 refused · 130 stopped: run it again
    """
    from broker_bridge.cli.replay_view import run_text
    from broker_bridge.replay.plan_file import open_plan

    config = read_config(config_path)
    with open_plan(plan_path) as opened:
        suggest = suggester(config, config_path, opened.header.route)
        again, check = suggest("replay", "run", str(plan_path)), suggest("replay", "status", str(plan_path))
        if execute:
            opened.hold()
            _confirm(opened, confirm_count, yes=yes)
        report = run_async(_run(config, route_name or opened.header.route, opened, execute=execute, rate=rate))
        text = run_text(opened, report, execute=execute, again=again, check=check)
    result = {
        "plan": str(plan_path),
        "id": report.plan_id,
        "items": report.items,
        "executed": execute,
        "sent": report.sent,
        "stopped": report.was_stopped,
        "headings": {heading.value: count for heading, count in sorted(report.headings.items())},
    }
    emit(result, human=text)
    return ExitCode.INTERRUPTED if report.was_stopped else ExitCode.OK


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


async def _run(config: BridgeConfig, route_name: str, plan: Plan, *, execute: bool, rate: float) -> RunReport:
    from broker_bridge.replay.runner import ReplayRunner

    async with open_scope(config, route_name, writes=execute) as scope:
        runner = ReplayRunner(
            reader=scope.reader, producer=scope.producer, store=scope.store, route=scope.route, clock=scope.clock
        )
        return await _journaled(runner, plan, rate=rate) if execute else await runner.preview(plan)


async def _journaled(runner: ReplayRunner, plan: Plan, *, rate: float) -> RunReport:
    """Send, with a line in the plan's journal before and after."""
    from broker_bridge.core.timestamps import rfc3339
    from broker_bridge.errors import BridgeError
    from broker_bridge.replay.run_journal import RunJournal

    journal, clock = RunJournal(plan.path), SystemClock()

    def tell(event: str, **facts: object) -> None:
        who = {"by": user_name(), "host": socket.gethostname(), "pid": os.getpid()}
        journal.add(event=event, at=rfc3339(clock.now_ms()), plan=plan.id, **who, **facts)

    tell("started", items=plan.end.items, rate_per_s=rate)
    try:
        report = await _send(runner, plan, rate=rate)
    except BridgeError as error:
        tell("ended", outcome="failed", code=error.code)
        raise
    tell("ended", outcome="stopped" if report.was_stopped else "done", sent=report.sent)
    return report


async def _send(runner: ReplayRunner, plan: Plan, *, rate: float) -> RunReport:
    from broker_bridge.cli.progress import Progress

    stop = asyncio.Event()
    with _stopping(stop), Progress("replaying", total=plan.end.items, unit="items") as progress:
        return await runner.send(
            plan,
            rate_per_s=rate,
            stop=stop,
            progress=lambda report: progress.update(report.looked_at, sent=report.sent),
        )


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
