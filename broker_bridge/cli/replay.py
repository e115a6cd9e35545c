"""``broker-bridge replay``: plan which dead letters go back, run the plan, see what came of it."""

from __future__ import annotations

import asyncio
import getpass
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.operator_scope import (
    open_scope,
    route_option,
    selection_of,
    selection_options,
    suggester,
)
from broker_bridge.cli.output import config_option, emit, json_option, note, read_config, run_async, wants_json
from broker_bridge.clock import SystemClock
from broker_bridge.errors import UsageError

if TYPE_CHECKING:
    from broker_bridge.config import BridgeConfig
    from broker_bridge.core.replay_plan import PlanEnd, PlanHeader
    from broker_bridge.replay.plan_file import Plan
    from broker_bridge.replay.planner import PlanWishes
    from broker_bridge.replay.runner import ReplayRunner, RunReport
    from broker_bridge.replay.status import ReplayStatus

DEFAULT_RATE = 500.0


@click.group("replay")
def group() -> None:
    """Plan and run replays of dead letters.

    A plan is a file: what goes back is decided once, can be read and reviewed, and does not change. Running it sends
    copies to the group's own redrive lane. A run that was stopped or killed goes on where it ended: the lane itself
    says what was sent.

    \b
    Example:
      broker-bridge replay plan --code target_rejected --why "vouchers are accepted again" --out vouchers.plan
      broker-bridge replay run vouchers.plan
      broker-bridge replay run vouchers.plan --execute --confirm-count 42
      broker-bridge replay status vouchers.plan --wait
    """


# -- plan


@group.command("plan")
@config_option
@route_option
@selection_options
@click.option("--why", required=True, metavar="TEXT", help="The reason; it stands in the plan.")
@click.option("--by", metavar="NAME", help="Who plans it.  [default: the user]")
@click.option("--out", type=click.Path(path_type=Path), help="The plan file.  [default: replay-<route>-<time>.plan]")
@click.option("--allow-expired", is_flag=True, help="Also letters whose claim is gone: effects may repeat.")
@click.option("--include-undecodable", is_flag=True, help="Also letters that do not decode under the contract.")
@json_option
def plan(
    *,
    config_path: Path,
    route_name: str | None,
    why: str,
    by: str | None,
    out: Path | None,
    allow_expired: bool,
    include_undecodable: bool,
    as_json: bool,
    **given: Any,
) -> ExitCode:
    """Decide which dead letters go back and write it down. Sends nothing.

    \b
    Example:
      broker-bridge replay plan --fingerprint 3f2a90b1c4de --why "card service fixed" --out cards.plan

    \b
    Exit status: 0 planned · 1 nothing to replay, no file was written · 2 wrong option, or the file exists
                 3 no such route or topic · 4 Kafka or Redis unavailable · 5 refused
    """
    from broker_bridge.cli.replay_view import plan_text
    from broker_bridge.replay.planner import PlanWishes

    config = read_config(config_path)
    wishes = PlanWishes(selection_of(given), by or _user(), why, allow_expired, include_undecodable)
    header, end, path = run_async(_plan(config, route_name, wishes, out))
    run = suggester(config, config_path, header.route)("replay", "run", str(path))
    result = {
        "plan": str(path) if end else None,
        "id": end.plan_id if end else None,
        "route": header.route,
        "destination": header.destination,
        "selection": header.selection,
        "prediction": header.prediction,
    }
    emit(result, human=plan_text(header, end, path, run))
    return ExitCode.OK if end else ExitCode.NO


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


async def _plan(
    config: BridgeConfig, route_name: str | None, wishes: PlanWishes, out: Path | None
) -> tuple[PlanHeader, PlanEnd | None, Path]:
    from broker_bridge.replay.dead_letters import DeadLetters
    from broker_bridge.replay.plan_file import write_plan
    from broker_bridge.replay.planner import Planner

    async with open_scope(config, route_name) as scope:
        letters = DeadLetters(reader=scope.reader, store=scope.store, route=scope.route)
        planner = Planner(
            letters=letters, reader=scope.reader, route=scope.route, clock=scope.clock, decode=scope.decoder()
        )
        with planner.spool() as spool:
            header = await planner.draft(wishes, spool=spool)
            stamp = "".join(char for char in header.created_at[:19] if char.isalnum())
            path = out or Path(f"replay-{scope.route.name}-{stamp}.plan")
            if not header.prediction.to_replay:
                return header, None, path
            return header, write_plan(path, header, spool), path


# -- run


@group.command("run")
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
        who = {"by": _user(), "host": socket.gethostname(), "pid": os.getpid()}
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


# -- status


@group.command("status")
@click.argument("plan_path", metavar="PLAN", type=click.Path(path_type=Path))
@config_option
@route_option
@click.option("--wait", is_flag=True, help="Ask again until everything is settled.")
@click.option("--timeout", default="60s", show_default=True, metavar="DURATION", help="With --wait: how long at most.")
@json_option
def status(
    *, plan_path: Path, config_path: Path, route_name: str | None, wait: bool, timeout: str, as_json: bool
) -> ExitCode:
    """Tell what became of every item of PLAN, from the claims and the redrive lane.

    \b
    Example:
      broker-bridge replay status vouchers.plan --wait --timeout 5m

    \b
    Exit status: 0 all settled, none died again · 1 some died again, are missing, or are not settled yet
                 2 the plan file is damaged · 3 no such file, route or topic · 4 Kafka or Redis unavailable
    """
    from broker_bridge.cli.replay_view import status_text
    from broker_bridge.core.duration import parse_duration_ms
    from broker_bridge.replay.plan_file import open_plan
    from broker_bridge.replay.run_journal import RunJournal

    config = read_config(config_path)
    try:
        timeout_ms = parse_duration_ms(timeout) if wait else 0
    except ValueError as error:
        raise UsageError(f"--timeout {timeout!r} {error}") from error
    with open_plan(plan_path) as opened:
        found = run_async(_status(config, route_name or opened.header.route, opened, timeout_ms))
        route, runs = opened.header.route, RunJournal(opened.path).entries()
    result = {
        "plan": str(plan_path),
        "id": found.plan_id,
        "items": found.items,
        "settled": found.is_settled,
        "good": found.is_good,
        "counts": {one.value: count for one, count in sorted(found.counts.items())},
        "bad": [{"status": one.value, **item._asdict()} for item, one in found.bad],
        "runs": runs,
    }
    groups = suggester(config, config_path, route)("dlq", "groups", "--state", "dead_again")
    emit(result, human=status_text(found, runs, groups))
    return ExitCode.OK if found.is_good else ExitCode.NO


async def _status(config: BridgeConfig, route_name: str, plan: Plan, timeout_ms: int) -> ReplayStatus:
    from broker_bridge.cli.progress import Progress
    from broker_bridge.core.replay_state import OPEN
    from broker_bridge.replay.status import StatusReader

    def settled(found: ReplayStatus) -> int:
        return found.items - sum(found.counts[one] for one in OPEN)

    async with open_scope(config, route_name) as scope:
        reader = StatusReader(reader=scope.reader, store=scope.store, clock=scope.clock)
        if not timeout_ms:
            return await reader.read(plan)
        with Progress("settled", total=plan.end.items, unit="items") as progress:
            return await reader.wait(
                plan, timeout_ms=timeout_ms, progress=lambda found: progress.update(settled(found))
            )
