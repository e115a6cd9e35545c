"""``broker-bridge history``: what operators did, when and why."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker_bridge.cli.operator_scope import moment_ms, open_operations
from broker_bridge.cli.output import config_option, emit, json_option, note, read_config, run_async
from broker_bridge.clock import SystemClock
from broker_bridge.core.discard import LISTING
from broker_bridge.core.operation import Action, OperationFilter

if TYPE_CHECKING:
    from broker_bridge.config import BridgeConfig
    from broker_bridge.core.operation import Operation
    from broker_bridge.message import Position
    from broker_bridge.replay.operations_log import Extent

SHOWN = 50
_UNREADABLE_KEPT = 10


@dataclass(slots=True)
class History:
    """The newest of the wanted operations, oldest first, and what there is to say about the rest of the topic.

    ``matched`` counts all that were wanted, ``unreadable`` the records that are no operations; of these the first few
    are kept. ``extent`` is None where the topic does not exist.
    """

    topic: str
    operations: deque[Operation]
    matched: int = 0
    unreadable: int = 0
    unreadable_first: list[tuple[Position, str]] = field(default_factory=list)
    extent: Extent | None = None

    def add(self, operation: Operation) -> None:
        """One more that is wanted."""
        self.operations.append(operation)
        self.matched += 1

    def refuse(self, position: Position, reason: str) -> None:
        """One more record that is no operation."""
        self.unreadable += 1
        if len(self.unreadable_first) < _UNREADABLE_KEPT:
            self.unreadable_first.append((position, reason))


@click.command("history")
@config_option
@click.option("--route", "route_name", default="", metavar="NAME", help="Only actions on this route.")
@click.option(
    "--action",
    "actions",
    multiple=True,
    type=click.Choice([action.value for action in Action]),
    help="Only this action; may be repeated.",
)
@click.option("--by", default="", metavar="NAME", help="Only what this user did.")
@click.option(
    "--plan",
    default="",
    metavar="PLAN",
    help="The whole story of one plan (its id, or its file), discard, import or export (its id).",
)
@click.option("--since", metavar="TIME", help='At or after: "2026-11-24T08:00:00Z", or "2h" ago.')
@click.option("--until", metavar="TIME", help="Before.")
@click.option(
    "--limit", type=click.IntRange(min=1), help=f"The newest so many.  [default: {SHOWN}; with --plan no limit]"
)
@json_option
def command(
    *,
    config_path: Path,
    route_name: str,
    actions: tuple[str, ...],
    by: str,
    plan: str,
    since: str | None,
    until: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Show what operators did: who, when, why, to which plan, and how many records it concerned. The newest is last.

    Every replay, discard, import and export is recorded in the topic of [operations] before it goes on; it holds no
    keys and no payloads. Records of the topic that are no operations are told and passed over. Which letters a discard
    was about is shown by --plan with its id.

    \b
    Example:
      broker-bridge history --since 7d
      broker-bridge history --plan cards.plan

    \b
    Exit status: 0 done · 2 wrong option, or a damaged plan file · 4 Kafka unavailable
    """
    from broker_bridge.cli.history_view import history_result, history_text, remarks

    config, now_ms = read_config(config_path), SystemClock().now_ms()
    wanted = OperationFilter(
        route=route_name,
        actions=actions,
        by=by,
        plan_id=_plan_id(plan),
        since_ms=moment_ms(since, now_ms=now_ms, option="--since"),
        until_ms=moment_ms(until, now_ms=now_ms, option="--until"),
    )
    found = run_async(_read(config, wanted, limit or (None if plan else SHOWN)))
    emit(history_result(found), human=history_text(found, of_plan=bool(plan)))
    for remark in remarks(found):
        note(remark)


def _plan_id(given: str) -> str:
    """The plan's id: read from the file where there is one of that name, otherwise as given."""
    path = Path(given)
    if not given or not path.is_file():
        return given
    from broker_bridge.replay.plan_file import open_plan

    with open_plan(path) as plan:
        return plan.id


async def _read(config: BridgeConfig, wanted: OperationFilter, limit: int | None) -> History:
    async with open_operations(config) as log:
        found = History(log.topic, deque(maxlen=limit), extent=await log.extent())
        async for operation in log.read(wanted, unreadable=found.refuse):
            if wanted.plan_id or operation.details.get("phase") != LISTING:
                found.add(operation)
        return found
