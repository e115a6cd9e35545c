"""``broker-bridge replay plan``: decide what goes back, and write it down."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.operator_identity import user_name
from broker_bridge.cli.operator_scope import (
    OperatorScope,
    moment_ms,
    open_scope,
    route_option,
    selection_of,
    selection_options,
    suggester,
    topic_option,
)
from broker_bridge.cli.output import config_option, emit, json_option, note, read_config, run_async
from broker_bridge.clock import SystemClock
from broker_bridge.core.newest_version import ReplayOrder
from broker_bridge.errors import UsageError

if TYPE_CHECKING:
    from broker_bridge.config import BridgeConfig
    from broker_bridge.core.letter_filter import NotCompared
    from broker_bridge.core.operation import Operation
    from broker_bridge.core.replay_plan import PlanEnd, PlanHeader
    from broker_bridge.replay.planner import PlanWishes, Told
    from broker_bridge.replay.sources import LetterSource, SourceRange

DEAD_LETTERS, TOPIC, FILE = "dead-letters", "topic", "file"
_RANGE: Final = ("partition", "from_offset", "to_offset", "since", "until")


def _finite(_context: click.Context, parameter: click.Parameter, value: float) -> float:
    """``FloatRange`` lets "nan" through, which compares with nothing, and "inf"."""
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is no rate.", param=parameter)
    return value


@click.command("plan")
@config_option
@route_option
@click.option(
    "--source",
    type=click.Choice([DEAD_LETTERS, TOPIC, FILE]),
    default=DEAD_LETTERS,
    show_default=True,
    help="Where the messages come from: dead letters, the route's source topic (by partition, offset and time), "
    "or what dlq export wrote.",
)
@click.option("--file", "file", type=click.Path(path_type=Path), help="With --source file: which.")
@topic_option
@selection_options
@click.option("--why", required=True, metavar="TEXT", help="The reason; it stands in the plan.")
@click.option("--by", metavar="NAME", help="Who plans it.  [default: the user]")
@click.option("--out", type=click.Path(path_type=Path), help="The plan file.  [default: replay-<route>-<time>.plan]")
@click.option(
    "--order",
    type=click.Choice([order.value for order in ReplayOrder]),
    help="What to do where a newer message of the record key was completed.  "
    "[default: skip-stale where the contract has a version field, else as-is]",
)
@click.option("--no-order-check", is_flag=True, help="Do not read the source topic for newer messages of the keys.")
@click.option("--force", is_flag=True, help="Execute also completed messages, once more.")
@click.option("--allow-expired", is_flag=True, help="Also letters whose claim is gone: effects may repeat.")
@click.option("--include-undecodable", is_flag=True, help="Also letters that do not decode under the contract.")
@click.option(
    "--patch",
    type=click.Path(path_type=Path),
    help="A JSON Patch (RFC 6902) to apply to every value before it is sent.",
)
@click.option(
    "--set", "set_", multiple=True, metavar="FIELD=VALUE", help="Set a field of every value; may be repeated."
)
@click.option("--upcast", is_flag=True, help="Write every value anew under the current version of the contract.")
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    callback=_finite,
    default=500.0,
    show_default=True,
    help="Records a second that the run may send.",
)
@json_option
def plan(
    *,
    config_path: Path,
    route_name: str | None,
    by: str | None,
    out: Path | None,
    as_json: bool,
    **given: Any,
) -> ExitCode:
    """Decide which messages go back, predict what comes of it, and write it down. Sends nothing.

    \b
    Example:
      broker-bridge replay plan --fingerprint 3f2a90b1c4de --why "card service fixed" --out cards.plan
      broker-bridge replay plan --source topic --since 2h --why "effects of the morning were lost" --force
      broker-bridge replay plan --code contract_invalid --set currency=EUR --why "shop sent no currency"

    \b
    Exit status: 0 planned · 1 nothing to replay, no file was written
                 2 wrong option, patch or file, or the plan file exists · 3 no such route, topic or file
                 4 Kafka or Redis unavailable, or the plan could not be recorded · 5 refused
    """
    from broker_bridge.cli.replay_view import plan_text
    from broker_bridge.replay.plan_file import diff_path

    config = read_config(config_path)
    wishes = _wishes(given, by or user_name())
    _check_source(given)
    header, end, path = run_async(_plan(config, route_name, wishes, given, out))
    run = suggester(config, config_path, header.route)("replay", "run", str(path))
    diff = diff_path(path) if end and header.edit is not None else None
    result = {
        "plan": str(path) if end else None,
        "diff": str(diff) if diff else None,
        "id": end.plan_id if end else None,
        "route": header.route,
        "source": header.source,
        "destination": header.destination,
        "selection": header.selection,
        "order": header.order,
        "force": header.force,
        "prediction": header.prediction,
        "rate_per_s": header.rate_per_s,
        "expected_s": header.expected_s,
    }
    emit(result, human=plan_text(header, end, path, run=run, diff=diff))
    return ExitCode.OK if end else ExitCode.NO


def _wishes(given: dict[str, Any], by: str) -> PlanWishes:
    from broker_bridge.replay.planner import PlanWishes

    return PlanWishes(
        by=by,
        why=given["why"],
        allow_expired=given["allow_expired"],
        include_undecodable=given["include_undecodable"],
        force=given["force"],
        order=ReplayOrder(given["order"]) if given["order"] else None,
        order_check=not given["no_order_check"],
        edit=_edit(given["patch"], given["set_"], upcast=given["upcast"]),
        rate_per_s=given["rate"],
    )


def _edit(patch: Path | None, set_: tuple[str, ...], *, upcast: bool) -> dict[str, Any] | None:
    from broker_bridge.replay.edit import read_patch, set_operation

    operations = [*(read_patch(patch) if patch else []), *map(set_operation, set_)]
    if operations:
        return {"patch": operations}
    if patch is not None and not upcast:
        raise UsageError(
            "the patch is empty", where=str(patch), remedy="to write values anew as they are, say --upcast"
        )
    return {"patch": [], "upcast": True} if upcast else None


async def _plan(
    config: BridgeConfig, route_name: str | None, wishes: PlanWishes, given: dict[str, Any], out: Path | None
) -> tuple[PlanHeader, PlanEnd | None, Path]:
    from broker_bridge.replay.plan_file import check_free, spool, write_plan
    from broker_bridge.replay.planner import Planner

    folder = out.parent if out else Path()
    if out is not None:
        check_free(out)
    async with open_scope(config, route_name) as scope:
        with _source(scope, given) as source, spool(folder) as lines, spool(folder) as diff, _telling() as told:
            planner = Planner(
                source=source,
                reader=scope.reader,
                store=scope.store,
                route=scope.route,
                clock=scope.clock,
                contract=scope.letter_contract(),
                folder=folder,
            )
            header = await planner.draft(wishes, spool=lines, diff=diff, told=told)
            _tell_not_compared(getattr(source, "not_compared", None))
            stamp = "".join(char for char in header.created_at[:19] if char.isalnum())
            path = out or Path(f"replay-{scope.route.name}-{stamp}.plan")
            if not header.prediction.to_replay:
                return header, None, path
            end = write_plan(path, header, lines, diff=diff if header.edit is not None else None)
            await _recorded(scope, header, end, path)
            return header, end, path


def _check_source(given: dict[str, Any]) -> None:
    """Raise ``UsageError`` for options that do not go together."""
    kind = given["source"]
    if (given["file"] is None) is (kind == FILE):
        raise UsageError(
            "--source file and --file belong together", remedy="say both: --source file --file letters.ndjson"
        )
    if given["topic"] is not None and kind != DEAD_LETTERS:
        raise UsageError(f"--topic names a dead-letter topic, which --source {kind} does not read")
    if kind != TOPIC:
        selection_of(given)
    else:
        _range(given)
        if others := selection_of(given | dict.fromkeys(_RANGE)).as_json():
            raise UsageError(
                f"records of a topic cannot be chosen by {', '.join(others)}",
                remedy="choose by --partition, --from-offset, --to-offset, --since and --until",
            )


def _range(given: dict[str, Any]) -> SourceRange:
    from broker_bridge.replay.sources import SourceRange

    now_ms = SystemClock().now_ms()
    return SourceRange(
        given["partition"],
        given["from_offset"],
        given["to_offset"],
        moment_ms(given["since"], now_ms=now_ms, option="--since"),
        moment_ms(given["until"], now_ms=now_ms, option="--until"),
    )


@contextmanager
def _source(scope: OperatorScope, given: dict[str, Any]) -> Iterator[LetterSource]:
    """Where the messages come from, by the options."""
    from broker_bridge.replay.sources import DeadLetterSource, FileSource, TopicSource

    if given["source"] == TOPIC:
        yield TopicSource(reader=scope.reader, store=scope.store, route=scope.route, range_=_range(given))
        return
    selection, decode = selection_of(given), scope.fields_decoder()
    if given["source"] == FILE:
        with FileSource.open(
            given["file"], store=scope.store, route=scope.route, selection=selection, decode=decode
        ) as opened:
            yield opened
    else:
        yield DeadLetterSource(
            reader=scope.reader,
            store=scope.store,
            route=scope.route.reading(given["topic"]),
            selection=selection,
            decode=decode,
            clock=scope.clock,
        )


@contextmanager
def _telling() -> Iterator[Told]:
    """Progress, one count after the other."""
    from broker_bridge.cli.progress import Progress

    labels = {"letters": "looking at letters", "order": "looking for newer messages"}
    with ExitStack() as shown:
        bars: dict[str, Progress] = {}

        def told(what: str, done: int, total: int | None) -> None:
            if what not in bars:
                shown.close()
                bars[what] = shown.enter_context(Progress(labels[what], total=total, unit="records"))
            bars[what].update(done, total=total)

        yield told


def _tell_not_compared(found: NotCompared | None) -> None:
    for sentence in found.sentences() if found is not None else ():
        note(sentence)


async def _recorded(scope: OperatorScope, header: PlanHeader, end: PlanEnd, path: Path) -> None:
    """Record the plan; one that cannot be recorded is taken away again."""
    from broker_bridge.replay.plan_file import remove_plan

    try:
        await scope.operations.record(_operation(scope, header, end))
    except BaseException:
        remove_plan(path)
        raise


def _operation(scope: OperatorScope, header: PlanHeader, end: PlanEnd) -> Operation:
    from broker_bridge.core.letters import Selection
    from broker_bridge.core.operation import Action
    from broker_bridge.core.recorded_selection import recorded_selection
    from broker_bridge.core.replay_plan import TOPIC

    is_range = header.source["kind"] == TOPIC
    counts = {name: count for name, count in asdict(header.prediction).items() if isinstance(count, int) and count}
    details = {
        "source": {**header.source, **({"path": Path(header.source["path"]).name} if "path" in header.source else {})},
        "selection": header.selection if is_range else recorded_selection(Selection.from_json(header.selection)),
        "order": header.order,
        "force": header.force,
        "edited": header.edit is not None,
        "allow_expired": header.allow_expired,
    }
    return scope.operation(
        Action.REPLAY_PLANNED,
        why=header.why,
        by=header.by,
        plan_id=end.plan_id,
        plan_sha256=end.sha256,
        counts=counts,
        details=details,
    )
