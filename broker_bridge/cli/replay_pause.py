"""``broker-bridge replay pause`` and ``resume``: hold a run that goes on somewhere, and let it go on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.operator_scope import open_scope, route_option
from broker_bridge.cli.output import config_option, emit, json_option, read_config, run_async

if TYPE_CHECKING:
    from broker_bridge.config import BridgeConfig
    from broker_bridge.core.operation import Action


class _Meant(NamedTuple):
    plan_id: str
    sha256: str
    route: str | None


@click.command("pause")
@click.argument("plan_path", metavar="PLAN", type=click.Path(path_type=Path))
@config_option
@route_option
@click.option("--why", required=True, metavar="TEXT", help="The reason; it is recorded.")
@json_option
def pause(*, plan_path: Path, config_path: Path, route_name: str | None, why: str, as_json: bool) -> ExitCode:
    """Have the run of PLAN, on whatever machine, send nothing more until it is resumed.

    The order is a record of the operations topic, which a run follows: it stops within two seconds. What was sent stays
    sent. A run that is begun later is not paused by it.

    \b
    Example:
      broker-bridge replay pause vouchers.plan --why "the database is slow"

    \b
    Exit status: 0 ordered · 2 the plan file is damaged · 3 no such file or route · 4 Kafka unavailable
    """
    from broker_bridge.core.operation import Action

    return _order(Action.REPLAY_PAUSE_REQUESTED, plan_path, config_path, route_name, why)


@click.command("resume")
@click.argument("plan_path", metavar="PLAN", type=click.Path(path_type=Path))
@config_option
@route_option
@click.option("--why", default="", metavar="TEXT", help="The reason; it is recorded.")
@json_option
def resume(*, plan_path: Path, config_path: Path, route_name: str | None, why: str, as_json: bool) -> ExitCode:
    """Let a paused run of PLAN go on. A run that has ended is gone on with by replay run.

    \b
    Example:
      broker-bridge replay resume vouchers.plan

    \b
    Exit status: 0 ordered · 2 the plan file is damaged · 3 no such file or route · 4 Kafka unavailable
    """
    from broker_bridge.core.operation import Action

    return _order(Action.REPLAY_RESUME_REQUESTED, plan_path, config_path, route_name, why)


def _order(action: Action, plan_path: Path, config_path: Path, route_name: str | None, why: str) -> ExitCode:
    from broker_bridge.replay.plan_file import open_plan

    config = read_config(config_path)
    with open_plan(plan_path) as plan:
        meant = _Meant(plan.id, plan.end.sha256, route_name or plan.header.route)
    run_async(_record(config, action, meant, why))
    told = "Paused" if action.endswith("pause_requested") else "Resumed"
    result: dict[str, Any] = {"plan": str(plan_path), "id": meant.plan_id, "ordered": action.value}
    emit(result, human=f"{told}: a run of plan {meant.plan_id} that goes on now follows within two seconds.")
    return ExitCode.OK


async def _record(config: BridgeConfig, action: Action, meant: _Meant, why: str) -> None:
    async with open_scope(config, meant.route) as scope:
        operation = scope.operation(action, why=why, plan_id=meant.plan_id, plan_sha256=meant.sha256)
        await scope.operations.record(operation)
