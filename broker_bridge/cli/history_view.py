"""Operations as a person reads them: a table of many, the story of one plan."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from broker_bridge.cli.output import table
from broker_bridge.core.operation import Action, Operation
from broker_bridge.core.timestamps import rfc3339

if TYPE_CHECKING:
    from rich.console import RenderableType

    from broker_bridge.cli.history import History

_WHY_SHOWN = 80
_TOLD = 3
_WORDS: dict[str, str] = {
    Action.REPLAY_PLANNED: "planned",
    Action.REPLAY_STARTED: "run started",
    Action.REPLAY_PAUSE_REQUESTED: "pause ordered",
    Action.REPLAY_PAUSED: "run paused",
    Action.REPLAY_RESUME_REQUESTED: "told to go on",
    Action.REPLAY_ENDED: "run ended",
    Action.REPLAY_VERIFIED: "verified",
}


def history_result(found: History) -> dict[str, Any]:
    """Everything as JSON types."""
    return {
        "topic": found.topic,
        "topic_exists": found.extent is not None,
        "removed_before": found.extent.first if found.extent else 0,
        "operations": [{"at": rfc3339(one.at_ms), **asdict(one)} for one in found.operations],
        "more": found.matched - len(found.operations),
        "unreadable": found.unreadable,
        "unreadable_first": [{"position": str(at), "reason": reason} for at, reason in found.unreadable_first],
    }


def history_text(found: History, *, of_plan: bool) -> str | RenderableType:
    """A table, or the story where all is of one plan."""
    if found.extent is None:
        return f"No operator's action was recorded yet: topic {found.topic} does not exist."
    if not found.operations:
        return "No operation of this kind was recorded."
    operations = list(found.operations)
    if of_plan and len({one.plan_id for one in operations}) == 1:
        return "\n".join(_story(operations))
    rows = [
        (_time(one), _who(one), one.action, one.route, one.plan_id, counts_text(one), _short(one.why))
        for one in operations
    ]
    return table(("when", "who", "action", "route", "plan", "how many", "why"), rows)


def remarks(found: History) -> Iterator[str]:
    """What else an operator must know of the topic."""
    more = found.matched - len(found.operations)
    if more:
        yield f"{more:,} older ones are not shown; narrow the filters or raise --limit."
    if found.extent and found.extent.first:
        yield (
            f"Topic {found.topic} begins at offset {found.extent.first}: what was before was removed. "
            "Set its retention.ms and retention.bytes to -1, so that the record of operations is kept."
        )
    if found.unreadable:
        yield f"Passed over {found.unreadable:,} records of the topic that are no operations:"
        yield from (f"  {position} {reason}" for position, reason in found.unreadable_first[:_TOLD])


def counts_text(operation: Operation) -> str:
    """``42 items, 3 already completed``; what is nought is left out where anything is not."""
    counts = {name: count for name, count in operation.counts.items() if count} or operation.counts
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())


def _story(operations: Sequence[Operation]) -> Iterator[str]:
    first = operations[0]
    route = f", route {first.route}" if first.route else ""
    yield f"Plan {first.plan_id}{route}"
    hashes = dict.fromkeys(one.plan_sha256 for one in operations if one.plan_sha256)
    yield from (f"  sha256 {sha256}" for sha256 in hashes)
    if len(hashes) > 1:
        yield "  MORE THAN ONE HASH under this id: files that are not the same plan"
    open_runs = set(runs_without_end(operations))
    for number, one in enumerate(operations):
        yield f"  {_time(one)}  {_WORDS.get(one.action, one.action.replace('_', ' '))} by {_who(one)}" + (
            f": {one.why}" if one.why else ""
        )
        if one.counts:
            yield f"      {counts_text(one)}"
        yield from (f"      {name}: {_value(value)}" for name, value in one.details.items())
        if number in open_runs:
            yield "      no end is recorded: it still runs, or was killed"


def runs_without_end(operations: Sequence[Operation]) -> Iterator[int]:
    """Which of a plan's operations, by number, are starts that no end follows. One run of a plan goes on at a time."""
    started: int | None = None
    for number, one in enumerate(operations):
        if one.action == Action.REPLAY_STARTED:
            if started is not None:
                yield started
            started = number
        elif one.action == Action.REPLAY_ENDED:
            started = None
    if started is not None:
        yield started


def _time(operation: Operation) -> str:
    return rfc3339(operation.at_ms)[:19] + "Z"


def _who(operation: Operation) -> str:
    return f"{operation.by}@{operation.host}"


def _short(text: str) -> str:
    return text if len(text) <= _WHY_SHOWN else text[: _WHY_SHOWN - 1] + "…"


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
