"""``broker-bridge replay status``: what became of a plan's items."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.operator_scope import open_scope, route_option, suggester
from broker_bridge.cli.output import config_option, emit, json_option, read_config, run_async
from broker_bridge.core.duration import parse_duration_ms
from broker_bridge.errors import UsageError

if TYPE_CHECKING:
    from broker_bridge.config import BridgeConfig
    from broker_bridge.core.operation import Operation
    from broker_bridge.replay.operations_log import OperationsLog
    from broker_bridge.replay.plan_file import Plan
    from broker_bridge.replay.status import ReplayStatus


@click.command("status")
@click.argument("plan_path", metavar="PLAN", type=click.Path(path_type=Path))
@config_option
@route_option
@click.option("--wait", is_flag=True, help="Ask again until everything is settled.")
@click.option("--timeout", default="60s", show_default=True, metavar="DURATION", help="With --wait: how long at most.")
@json_option
def status(
    *, plan_path: Path, config_path: Path, route_name: str | None, wait: bool, timeout: str, as_json: bool
) -> ExitCode:
    """Tell what became of every item of PLAN, from the claims and the redrive lane, and who ran it.

    \b
    Example:
      broker-bridge replay status vouchers.plan --wait --timeout 5m

    \b
    Exit status: 0 all settled, none died again · 1 some died again, are missing, or are not settled yet
                 2 the plan file is damaged · 3 no such file, route or topic · 4 Kafka or Redis unavailable
    """
    from broker_bridge.cli.replay_run_view import status_text
    from broker_bridge.replay.plan_file import open_plan

    config = read_config(config_path)
    timeout_ms = timeout_of(timeout) if wait else 0
    with open_plan(plan_path) as opened:
        found, runs = run_async(_status(config, route_name or opened.header.route, opened, timeout_ms))
        route, topic = opened.header.route, opened.header.topic
    result = {
        "plan": str(plan_path),
        "id": found.plan_id,
        "items": found.items,
        "settled": found.is_settled,
        "good": found.is_good,
        "counts": {one.value: count for one, count in sorted(found.counts.items())},
        "bad": [{"status": one.value, "origin": str(item.origin(topic)), **item._asdict()} for item, one in found.bad],
        "runs": runs,
    }
    groups = suggester(config, config_path, route)("dlq", "groups", "--state", "dead_again")
    emit(result, human=status_text(found, topic, runs, groups))
    return ExitCode.OK if found.is_good else ExitCode.NO


def timeout_of(text: str) -> int:
    """``--timeout`` in ms. Raises ``UsageError``."""
    try:
        return parse_duration_ms(text)
    except ValueError as error:
        raise UsageError(f"--timeout {text!r} {error}") from error


async def _status(
    config: BridgeConfig, route_name: str, plan: Plan, timeout_ms: int
) -> tuple[ReplayStatus, list[Operation]]:
    from broker_bridge.cli.progress import Progress
    from broker_bridge.core.replay_state import OPEN
    from broker_bridge.replay.status import StatusReader

    def settled(found: ReplayStatus) -> int:
        return found.items - sum(found.counts[one] for one in OPEN)

    async with open_scope(config, route_name) as scope:
        reader = StatusReader(reader=scope.reader, store=scope.store, clock=scope.clock)
        if not timeout_ms:
            return await reader.read(plan), await _runs(scope.operations, plan)
        with Progress("settled", total=plan.end.items, unit="items") as progress:
            found = await reader.wait(
                plan, timeout_ms=timeout_ms, progress=lambda found: progress.update(settled(found))
            )
        return found, await _runs(scope.operations, plan)


async def _runs(log: OperationsLog, plan: Plan) -> list[Operation]:
    """What was done with the plan, oldest first."""
    from broker_bridge.core.operation import OperationFilter

    return [one async for one in log.read(OperationFilter(plan_id=plan.id))]
