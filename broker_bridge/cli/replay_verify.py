"""``broker-bridge replay verify``: did everything come as the plan predicted?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.operator_scope import open_scope, route_option, suggester
from broker_bridge.cli.output import config_option, emit, json_option, read_config, run_async
from broker_bridge.cli.replay_status import timeout_of

if TYPE_CHECKING:
    from broker_bridge.config import BridgeConfig
    from broker_bridge.replay.plan_file import Plan
    from broker_bridge.replay.verify import Verification


@click.command("verify")
@click.argument("plan_path", metavar="PLAN", type=click.Path(path_type=Path))
@config_option
@route_option
@click.option("--wait", is_flag=True, help="Ask again until everything is settled.")
@click.option("--timeout", default="60s", show_default=True, metavar="DURATION", help="With --wait: how long at most.")
@json_option
def verify(
    *, plan_path: Path, config_path: Path, route_name: str | None, wait: bool, timeout: str, as_json: bool
) -> ExitCode:
    """Compare what PLAN predicted with what came of it, message by message.

    Looked at are every item of the plan, every letter that it left alone, and every record in the redrive lane under
    its id. The verdict is as_predicted, differs, unsettled or broken (a message lost, one executed that was left alone,
    a record that the plan does not send). It is recorded in the operations topic.

    \b
    Example:
      broker-bridge replay verify vouchers.plan --wait --timeout 5m

    \b
    Exit status: 0 everything as predicted · 1 it is not, or not settled yet · 2 the plan file is damaged
                 3 no such file, route or topic · 4 Kafka or Redis unavailable
    """
    from broker_bridge.cli.replay_run_view import verify_text
    from broker_bridge.core.replay_verdict import Verdict
    from broker_bridge.replay.plan_file import open_plan

    config = read_config(config_path)
    timeout_ms = timeout_of(timeout) if wait else 0
    with open_plan(plan_path) as opened:
        found = run_async(_verify(config, route_name or opened.header.route, opened, timeout_ms))
        suggest = suggester(config, config_path, opened.header.route)
        text, result = verify_text(opened, found, suggest), _result(opened, found)
    emit(result, human=text)
    return ExitCode.OK if found.comparison.verdict is Verdict.AS_PREDICTED else ExitCode.NO


def _result(plan: Plan, found: Verification) -> dict[str, Any]:
    comparison, topic = found.comparison, plan.header.topic
    return {
        "plan": str(plan.path),
        "id": found.plan_id,
        "verdict": comparison.verdict.value,
        "settled": comparison.is_settled,
        "items": [
            {"predicted": predicted, "actual": actual.value, "count": count}
            for (predicted, actual), count in sorted(comparison.items.items())
        ],
        "forced": {actual.value: count for actual, count in sorted(comparison.forced.items())},
        "skipped": [
            {"why": why, "status": status.value, "count": count}
            for (why, status), count in sorted(comparison.skipped.items())
        ],
        "different": [
            {"origin": str(item.origin(topic)), "actual": actual.value, **item._asdict()}
            for item, actual in comparison.different
        ],
        "different_skipped": [
            {"origin": str(letter.origin(topic)), "status": status.value, **letter._asdict()}
            for letter, status in comparison.different_skipped
        ],
        "lane": {
            "topic": plan.header.destination,
            "records": found.records,
            "further_copies": comparison.copies,
            "foreign": comparison.foreign,
            "foreign_first": [{"position": str(at), "reason": reason} for at, reason in found.foreign_at],
        },
    }


async def _verify(config: BridgeConfig, route_name: str, plan: Plan, timeout_ms: int) -> Verification:
    from broker_bridge.cli.progress import Progress
    from broker_bridge.core.operation import Action
    from broker_bridge.core.replay_state import OPEN
    from broker_bridge.replay.verify import Verifier

    def settled(found: Verification) -> int:
        return sum(count for (_, actual), count in found.comparison.items.items() if actual not in OPEN)

    async with open_scope(config, route_name) as scope:
        verifier = Verifier(reader=scope.reader, store=scope.store, clock=scope.clock)
        with Progress("verifying", total=plan.end.items, unit="items") as progress:
            found = await verifier.wait(
                plan, timeout_ms=timeout_ms, progress=lambda found: progress.update(settled(found))
            )
        operation = scope.operation(
            Action.REPLAY_VERIFIED,
            plan_id=plan.id,
            plan_sha256=plan.end.sha256,
            counts=found.comparison.counts(),
            details={"verdict": found.comparison.verdict.value},
        )
        await scope.operations.record(operation)
        return found
