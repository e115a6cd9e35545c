"""``broker-bridge audit``: accounts for every message of a route, and compares with what the target says."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.operator_scope import moment_ms, open_scope, route_option, suggester
from broker_bridge.cli.output import config_option, emit, json_option, read_config, run_async
from broker_bridge.clock import SystemClock
from broker_bridge.errors import NotFoundError

if TYPE_CHECKING:
    from broker_bridge.config import BridgeConfig
    from broker_bridge.core.reconcile import Reconciliation
    from broker_bridge.replay.audit import AuditRange, AuditReport


@click.command("audit")
@config_option
@route_option
@click.option("--partition", type=click.IntRange(min=0), help="Only this partition.")
@click.option("--from-offset", type=click.IntRange(min=0), help="First offset, inclusive.")
@click.option("--to-offset", type=click.IntRange(min=0), help="Last offset, exclusive.")
@click.option("--since", metavar="TIME", help='Records at or after: "2026-11-24T08:00:00Z", or "2h" ago.')
@click.option("--until", metavar="TIME", help="Records before.")
@click.option("--expect-drained", is_flag=True, help="Also nothing may be pending, in retry or in progress.")
@click.option("--allow-forgotten", is_flag=True, help="Records older than claims are kept are no objection.")
@click.option("--outputs", is_flag=True, help="Also every completed record must have its result.")
@click.option(
    "--target-log",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Compare with the target's own log of effects (NDJSON; see above).",
)
@json_option
def command(
    *,
    config_path: Path,
    route_name: str | None,
    partition: int | None,
    from_offset: int | None,
    to_offset: int | None,
    since: str | None,
    until: str | None,
    expect_drained: bool,
    allow_forgotten: bool,
    outputs: bool,
    target_log: Path | None,
    as_json: bool,
) -> ExitCode:
    """Account for every record of a route's source topic.

    Each is completed, a duplicate, dead (its dead letter was seen), expired (it died of its own deadline), discarded,
    stale, pending, parked, in retry or in progress; what is none of these is unaccounted and listed with the command
    that mends it. Forgotten is what is older than claims are kept. Changes nothing; may run beside the workers.

    The lines of --target-log need "key" (the idempotency key); "kind" (applied, repeat, refused, fenced), "attempt",
    "crashes", "replay_id" and "origin" are used where they are there. Every completed record must be applied, nothing
    else, once (a repeat only where the bridge announced it on the request), and in order for each record key.

    \b
    Example:
      broker-bridge audit --expect-drained --outputs
      broker-bridge audit --target-log payments.ndjson --json

    \b
    Exit status: 0 the books balance · 1 they do not · 2 wrong option or log line · 3 no such route, topic or file
                 4 Kafka or Redis unavailable
    """
    from broker_bridge.cli.audit_view import audit_result, objections, print_audit
    from broker_bridge.replay.audit import AuditRange

    config = read_config(config_path)
    if target_log is not None and not target_log.exists():
        raise NotFoundError("there is no such log", where=str(target_log))
    now_ms = SystemClock().now_ms()
    wanted = AuditRange(
        partition=partition,
        from_offset=from_offset,
        to_offset=to_offset,
        since_ms=moment_ms(since, now_ms=now_ms, option="--since"),
        until_ms=moment_ms(until, now_ms=now_ms, option="--until"),
    )
    report, target = run_async(_audit(config, route_name, wanted, outputs=outputs, target_log=target_log))
    against = objections(report, target, expect_drained=expect_drained, allow_forgotten=allow_forgotten)
    suggest = suggester(config, config_path, report.route)
    result = audit_result(report, target, against=against, suggest=suggest)
    emit(result, human=lambda console: print_audit(console, report, target, against=against, suggest=suggest))
    return ExitCode.NO if against else ExitCode.OK


async def _audit(
    config: BridgeConfig, route_name: str | None, wanted: AuditRange, *, outputs: bool, target_log: Path | None
) -> tuple[AuditReport, Reconciliation | None]:
    from broker_bridge.cli.progress import Progress
    from broker_bridge.core.reconcile import Terms
    from broker_bridge.replay.audit import Auditor
    from broker_bridge.replay.reconciler import Reconciler
    from broker_bridge.replay.target_log import read_target_log

    async with open_scope(config, route_name) as scope:
        auditor = Auditor(reader=scope.reader, store=scope.store, route=scope.route)
        with closing(Reconciler(scope.route.topic)) as reconciler:
            with Progress("auditing", unit="records") as progress:
                report = await auditor.audit(
                    wanted,
                    outputs=outputs,
                    on_entry=reconciler.enter if target_log is not None else None,
                    progress=lambda done, total: progress.update(done, total=total),
                )
            if target_log is None:
                return report, None
            # After the books: what they call completed is in the log by now, whatever the target went on to do.
            for line in read_target_log(target_log):
                reconciler.line(line, report.covers)
            if reconciler.needs_newer:
                async for entry in auditor.newer(report):
                    reconciler.enter(entry)
            terms = Terms(is_whole=report.is_whole)
            is_ordered = scope.route.keeps_order
            return report, await asyncio.to_thread(reconciler.compare, terms, is_ordered=is_ordered)
