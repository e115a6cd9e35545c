"""``broker-bridge replay plan``: decide what goes back, and write it down."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.operator_identity import user_name
from broker_bridge.cli.operator_scope import open_scope, route_option, selection_of, selection_options, suggester
from broker_bridge.cli.output import config_option, emit, json_option, read_config, run_async

if TYPE_CHECKING:
    from broker_bridge.config import BridgeConfig
    from broker_bridge.core.replay_plan import PlanEnd, PlanHeader
    from broker_bridge.replay.planner import PlanWishes


@click.command("plan")
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
    wishes = PlanWishes(selection_of(given), by or user_name(), why, allow_expired, include_undecodable)
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
