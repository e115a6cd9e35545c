"""``broker-bridge audit``: accounts for every message of a route, and compares with what the target says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.operator_scope import moment_ms, open_scope, route_option, suggester
from broker_bridge.cli.output import config_option, emit, json_option, read_config, run_async
from broker_bridge.clock import SystemClock
from broker_bridge.core.duration import parse_duration_ms
from broker_bridge.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from broker_bridge.config import BridgeConfig
    from broker_bridge.replay.audit import AuditRange
    from broker_bridge.replay.audit_round import AuditOrder, AuditRound
    from broker_bridge.replay.target_list import TargetList

Command = TypeVar("Command", bound=Callable[..., Any])
RANGE = ("partition", "from_offset", "to_offset", "since", "until")
DEFAULT_EVERY = "60s"
DEFAULT_WINDOW = "1d"
SHORTEST_EVERY_MS = 100


def range_options(command: Command) -> Command:
    """Which records, and what they are held to."""
    for option in (
        click.option("--outputs", is_flag=True, help="Also every completed record must have its result."),
        click.option("--allow-forgotten", is_flag=True, help="Records older than claims are kept are no objection."),
        click.option("--expect-drained", is_flag=True, help="Also nothing may be left to be done."),
        click.option("--until", metavar="TIME", help="Records before."),
        click.option("--since", metavar="TIME", help='Records at or after: "2026-11-24T08:00:00Z", or "2h" ago.'),
        click.option("--to-offset", type=click.IntRange(min=0), help="Last offset, exclusive."),
        click.option("--from-offset", type=click.IntRange(min=0), help="First offset, inclusive."),
        click.option("--partition", type=click.IntRange(min=0), help="Only this partition."),
    ):
        command = option(command)
    return command


def target_options(command: Command) -> Command:
    """The target's own list of what it did."""
    for option in (
        click.option("--late-after", metavar="DURATION", help="Applied longer after it was written is late."),
        click.option("--target-id-header", metavar="NAME", help="Header of a result that names its message."),
        click.option("--target-topic", metavar="NAME", help="Compare with the results in this topic."),
        click.option(
            "--target-authorization",
            metavar="TEXT",
            envvar="BROKER_BRIDGE_AUDIT_AUTHORIZATION",
            show_envvar=True,
            help="The authorization header for the URL; prefer the variable.",
        ),
        click.option("--target-url", metavar="URL", help="Compare with the list that the target serves as NDJSON."),
        click.option(
            "--target-log",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Compare with the target's own log of effects (NDJSON; see above).",
        ),
    ):
        command = option(command)
    return command


def watch_options(command: Command) -> Command:
    """Again and again."""
    for option in (
        click.option("--listen", metavar="HOST:PORT", help="Serve /metrics and /health/ready there while watching."),
        click.option("--window", metavar="DURATION", help=f'Newest records in a round, or "all" [{DEFAULT_WINDOW}].'),
        click.option("--every", metavar="DURATION", help=f"Pause between rounds of --watch [{DEFAULT_EVERY}]."),
        click.option("--watch", is_flag=True, help="Audit again and again until SIGTERM or Ctrl-C."),
    ):
        command = option(command)
    return command


@click.command("audit")
@config_option
@route_option
@range_options
@target_options
@watch_options
@json_option
def command(*, config_path: Path, route_name: str | None, as_json: bool, **given: Any) -> ExitCode:
    """Account for every record of a route's source topic.

    Each is completed, a duplicate, dead (its dead letter was seen), expired (it died of its own deadline), discarded,
    stale, pending, parked, in retry or in progress; what is none of these is unaccounted and listed with the command
    that mends it. Forgotten is what is older than claims are kept. Changes nothing; may run beside the workers.

    The target's own list may be a file, a URL or a topic of results. Lines of a file or URL need "key" (the idempotency
    key); "kind" (applied, repeat, refused, fenced), "attempt", "crashes", "replay_id", "origin" and "at_ms" are used
    where they are there. Every completed record must be applied, nothing else, once (a repeat only where the bridge
    announced it on the request), in time, and in order for each record key.

    With --watch each round is one line. Trouble counts when two rounds in a row object to it.

    \b
    Example:
      broker-bridge audit --expect-drained --outputs
      broker-bridge audit --target-log payments.ndjson --json
      broker-bridge audit --watch --target-url http://127.0.0.1:8080/effects --listen 127.0.0.1:9108

    \b
    Exit status: 0 the books balance, or the watch was ended · 1 they do not · 2 wrong option or line of a list
                 3 no such route, topic or file · 4 Kafka, Redis or the target's list unavailable
    """
    config = read_config(config_path)
    _check_options(given)
    target = _target_list(given)
    late_after_ms = _duration_ms(given["late_after"], "--late-after")
    if late_after_ms is not None and target is None:
        raise UsageError("--late-after needs the target's list", remedy="add --target-log, -url or -topic")
    from broker_bridge.replay.audit_round import AuditOrder

    order = AuditOrder(
        wanted=_range(given),
        outputs=given["outputs"],
        target=target,
        late_after_ms=late_after_ms,
        expect_drained=given["expect_drained"],
        allow_forgotten=given["allow_forgotten"],
    )
    if given["watch"]:
        from broker_bridge.cli.audit_watch import WatchPlan, watch

        every_ms = _duration_ms(given["every"] or DEFAULT_EVERY, "--every") or 0
        if every_ms < SHORTEST_EVERY_MS:
            raise UsageError(f"--every must be at least {SHORTEST_EVERY_MS} ms")
        window = given["window"] or DEFAULT_WINDOW
        window_ms = None if window == "all" else _duration_ms(window, "--window")
        plan = WatchPlan(config, config_path, route_name, order, every_ms, window_ms, given["listen"])
        run_async(watch(plan, as_json=as_json))
        return ExitCode.OK
    return _once(config, config_path, route_name, order)


def _once(config: BridgeConfig, config_path: Path, route_name: str | None, order: AuditOrder) -> ExitCode:
    from broker_bridge.cli.audit_view import audit_result, print_audit

    found = run_async(_audit(config, route_name, order))
    suggest = suggester(config, config_path, found.report.route)
    result = audit_result(found, suggest=suggest)
    emit(result, human=lambda console: print_audit(console, found, suggest=suggest))
    return ExitCode.NO if found.objections else ExitCode.OK


async def _audit(config: BridgeConfig, route_name: str | None, order: AuditOrder) -> AuditRound:
    from broker_bridge.cli.progress import Progress
    from broker_bridge.replay.audit import Auditor
    from broker_bridge.replay.audit_round import audit_round

    async with open_scope(config, route_name) as scope:
        auditor = Auditor(reader=scope.reader, store=scope.store, route=scope.route)
        with Progress("auditing", unit="records") as progress:
            return await audit_round(
                auditor,
                scope.reader,
                scope.route,
                order,
                progress=lambda done, total: progress.update(done, total=total),
            )


def _check_options(given: dict[str, Any]) -> None:
    """Raise ``UsageError`` for options that do not go together."""
    if given["watch"]:
        named = [name for name in (*RANGE[1:], "expect_drained") if given[name]]
        if named:
            raise UsageError(
                f"--{named[0].replace('_', '-')} does not go with --watch",
                remedy="a watch looks at the newest --window of records while they are worked on",
            )
        return
    for name in ("every", "window", "listen"):
        if given[name] is not None:
            raise UsageError(f"--{name} goes with --watch")


def _target_list(given: dict[str, Any]) -> TargetList | None:
    path, url, topic = given["target_log"], given["target_url"], given["target_topic"]
    if path is None and url is None and topic is None:
        if given["target_id_header"] is not None:
            raise UsageError("--target-id-header goes with --target-topic")
        return None
    if path is not None and not path.exists():
        raise NotFoundError("there is no such log", where=str(path))
    from pydantic import SecretStr

    from broker_bridge.replay.target_list import TargetList

    secret = given["target_authorization"] if url is not None else None
    return TargetList(path, url, topic, SecretStr(secret) if secret else None, given["target_id_header"])


def _range(given: dict[str, Any]) -> AuditRange:
    from broker_bridge.replay.audit import AuditRange

    now_ms = SystemClock().now_ms()
    return AuditRange(
        partition=given["partition"],
        from_offset=given["from_offset"],
        to_offset=given["to_offset"],
        since_ms=moment_ms(given["since"], now_ms=now_ms, option="--since"),
        until_ms=moment_ms(given["until"], now_ms=now_ms, option="--until"),
    )


def _duration_ms(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    try:
        return parse_duration_ms(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error
