"""``broker-bridge dlq groups``: dead letters by what went wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.letter_view import short_place, tell_not_compared
from broker_bridge.cli.operator_scope import (
    Suggest,
    ago,
    open_scope,
    route_option,
    selection_of,
    selection_options,
    suggester,
    topic_option,
)
from broker_bridge.cli.output import config_option, emit, json_option, read_config, run_async, table

if TYPE_CHECKING:
    from rich.console import Console

    from broker_bridge.config import BridgeConfig
    from broker_bridge.core.letter_filter import NotCompared
    from broker_bridge.core.letter_groups import LetterGroup
    from broker_bridge.core.letters import Selection

_RELEASES_SHOWN = 3


@click.command("groups")
@config_option
@route_option
@selection_options
@topic_option
@click.option("--expect-none", is_flag=True, help="Exit 1 where any dead letter still waits for somebody.")
@json_option
def groups(
    *, config_path: Path, route_name: str | None, topic: str | None, expect_none: bool, as_json: bool, **given: Any
) -> ExitCode:
    """Group dead letters by what went wrong, those with most waiting first.

    \b
    Example:
      broker-bridge dlq groups --since 24h
      broker-bridge dlq groups --where 'amount_cents > 1000 and currency == "EUR"'

    \b
    Exit status: 0 done · 1 some wait and --expect-none was given · 3 no such route or topic · 4 Kafka or Redis away
    """
    config = read_config(config_path)
    route, found, not_compared = run_async(_groups(config, route_name, topic, selection_of(given)))
    waiting = sum(one.waiting for one in found)
    result = {
        "route": route,
        "waiting": waiting,
        "groups": [_group_json(one) for one in found],
        "not_compared": not_compared.as_json(),
    }
    suggest = suggester(config, config_path, route, topic=topic)
    emit(result, human=lambda console: _print_groups(console, found, suggest))
    tell_not_compared(not_compared)
    return ExitCode.NO if expect_none and waiting else ExitCode.OK


async def _groups(
    config: BridgeConfig, route_name: str | None, topic: str | None, selection: Selection
) -> tuple[str, list[LetterGroup], NotCompared]:
    async with open_scope(config, route_name) as scope:
        letters = scope.dead_letters(topic, whoever=True)
        return scope.route.name, await letters.groups(selection), letters.not_compared


def _group_json(group: LetterGroup) -> dict[str, object]:
    return {
        "fingerprint": group.fingerprint,
        "code": group.code,
        "target_code": group.target_code,
        "count": group.count,
        "waiting": group.waiting,
        "states": {state.value: count for state, count in sorted(group.states.items())},
        "distinct_keys": group.distinct_keys,
        "first_ms": group.first_ms,
        "last_ms": group.last_ms,
        "releases": dict(group.releases.most_common()),
        "example": str(group.example),
    }


def _print_groups(console: Console, found: list[LetterGroup], suggest: Suggest) -> None:
    from broker_bridge.clock import SystemClock

    if not found:
        console.print("No dead letters. Nothing to do.")
        return
    now_ms = SystemClock().now_ms()
    rows = [_row(one, now_ms) for one in found]
    columns = [name for name in rows[0] if name != "release" or any(one.releases for one in found)]
    cells = [[row[name] for name in columns] for row in rows]
    console.print(table(columns, cells, right=("letters", "waiting", "keys")))
    first = next((one for one in found if one.waiting), None)
    if first is None:
        console.print("\nNone of them waits for anybody.")
        return
    show = suggest("dlq", "show", short_place(first.example))
    plan = suggest("replay", "plan", "--fingerprint", first.fingerprint, "--why", "what was fixed")
    console.print(f"\nLook at one:    {show}\nOnce fixed:     {plan}")


def _row(group: LetterGroup, now_ms: int) -> dict[str, object]:
    return {
        "kind": group.fingerprint,
        "what went wrong": f"{group.code} ({group.target_code})" if group.target_code else group.code,
        "letters": group.count,
        "waiting": group.waiting,
        "the rest": _states_text(group),
        "keys": group.distinct_keys,
        "release": _releases_text(group),
        "first": ago(group.first_ms, now_ms=now_ms),
        "last": ago(group.last_ms, now_ms=now_ms),
        "example": short_place(group.example),
    }


def _states_text(group: LetterGroup) -> str:
    waits = {"waiting", "dead_again"}
    return ", ".join(f"{n} {state.value}" for state, n in sorted(group.states.items()) if state.value not in waits)


def _releases_text(group: LetterGroup) -> str:
    named = [name for name, _ in group.releases.most_common(_RELEASES_SHOWN)]
    return ", ".join(named) + (" …" if len(group.releases) > _RELEASES_SHOWN else "")
