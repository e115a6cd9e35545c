"""``broker-bridge dlq``: what is in the dead letters, and what became of it since."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.operator_scope import (
    Suggest,
    ago,
    open_scope,
    place_of,
    route_option,
    selection_of,
    selection_options,
    suggester,
)
from broker_bridge.cli.output import config_option, emit, json_option, note, read_config, run_async, table

if TYPE_CHECKING:
    from rich.console import Console

    from broker_bridge.config import BridgeConfig
    from broker_bridge.core.letters import Selection
    from broker_bridge.replay.dead_letters import BrowsedLetter, LetterGroup


@click.group("dlq")
def group() -> None:
    """Look into the dead letters: what went wrong, how often, and what became of it since.

    \b
    Example:
      broker-bridge dlq groups
      broker-bridge dlq list --code target_rejected --state waiting
      broker-bridge dlq show 0/17
    """


@group.command("groups")
@config_option
@route_option
@selection_options
@click.option("--expect-none", is_flag=True, help="Exit 1 where any dead letter still waits for somebody.")
@json_option
def groups(*, config_path: Path, route_name: str | None, expect_none: bool, as_json: bool, **given: Any) -> ExitCode:
    """Group dead letters by what went wrong, those with most waiting first.

    \b
    Example:
      broker-bridge dlq groups --since 24h

    \b
    Exit status: 0 done · 1 some wait and --expect-none was given · 3 no such route or topic · 4 Kafka or Redis away
    """
    config = read_config(config_path)
    route, found = run_async(_groups(config, route_name, selection_of(given)))
    waiting = sum(one.waiting for one in found)
    result = {"route": route, "waiting": waiting, "groups": [_group_json(one) for one in found]}
    suggest = suggester(config, config_path, route)
    emit(result, human=lambda console: _print_groups(console, found, suggest))
    return ExitCode.NO if expect_none and waiting else ExitCode.OK


async def _groups(config: BridgeConfig, route_name: str | None, selection: Selection) -> tuple[str, list[LetterGroup]]:
    from broker_bridge.replay.dead_letters import DeadLetters

    async with open_scope(config, route_name) as scope:
        letters = DeadLetters(reader=scope.reader, store=scope.store, route=scope.route)
        return scope.route.name, await letters.groups(selection)


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
        "example": str(group.example),
    }


def _print_groups(console: Console, found: list[LetterGroup], suggest: Suggest) -> None:
    from broker_bridge.clock import SystemClock

    if not found:
        console.print("No dead letters. Nothing to do.")
        return
    now_ms = SystemClock().now_ms()
    rows = [
        (
            one.fingerprint,
            f"{one.code} ({one.target_code})" if one.target_code else one.code,
            one.count,
            one.waiting,
            _states_text(one),
            one.distinct_keys,
            ago(one.first_ms, now_ms=now_ms),
            ago(one.last_ms, now_ms=now_ms),
            _short(one.example),
        )
        for one in found
    ]
    columns = ("kind", "what went wrong", "letters", "waiting", "the rest", "keys", "first", "last", "example")
    console.print(table(columns, rows, right=("letters", "waiting", "keys")))
    first = next((one for one in found if one.waiting), None)
    if first is None:
        console.print("\nNone of them waits for anybody.")
        return
    show = suggest("dlq", "show", _short(first.example))
    plan = suggest("replay", "plan", "--fingerprint", first.fingerprint, "--why", "what was fixed")
    console.print(f"\nLook at one:    {show}\nOnce fixed:     {plan}")


def _states_text(group: LetterGroup) -> str:
    waits = {"waiting", "dead_again"}
    return ", ".join(f"{n} {state.value}" for state, n in sorted(group.states.items()) if state.value not in waits)


@group.command("list")
@config_option
@route_option
@selection_options
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@json_option
def list_letters(*, config_path: Path, route_name: str | None, limit: int, as_json: bool, **given: Any) -> None:
    """List dead letters, each with its state; record keys are shown as hashes.

    \b
    Example:
      broker-bridge dlq list --state waiting --since 2h --limit 20

    \b
    Exit status: 0 done · 3 no such route or topic · 4 Kafka or Redis unavailable
    """
    config = read_config(config_path)
    route, found, more = run_async(_list(config, route_name, selection_of(given), limit))
    result = {"route": route, "letters": [_letter_json(one) for one in found], "more": more}
    emit(result, human=lambda console: _print_list(console, found))
    if more:
        note(f"There are more than {limit}; narrow the filters or raise --limit.")
    elif found:
        note(f"Look at one: {suggester(config, config_path, route)('dlq', 'show', _place(found[0]))}")


async def _list(
    config: BridgeConfig, route_name: str | None, selection: Selection, limit: int
) -> tuple[str, list[BrowsedLetter], bool]:
    from contextlib import aclosing

    from broker_bridge.replay.dead_letters import DeadLetters

    async with open_scope(config, route_name) as scope:
        found: list[BrowsedLetter] = []
        letters = DeadLetters(reader=scope.reader, store=scope.store, route=scope.route)
        async with aclosing(letters.browse(selection)) as batches:
            async for batch in batches:
                found.extend(batch)
                if len(found) > limit:
                    break
        return scope.route.name, found[:limit], len(found) > limit


def _letter_json(browsed: BrowsedLetter) -> dict[str, object]:
    from broker_bridge.core.replay_plan import key_hash

    letter, failure = browsed.letter, browsed.letter.failure
    return {
        "position": str(letter.position),
        "origin": str(letter.origin),
        "state": browsed.state.value,
        "code": failure.code,
        "target_code": failure.target_code,
        "fingerprint": failure.fingerprint,
        "attempts": failure.attempts,
        "hops": letter.hops,
        "replay_id": letter.replay_id,
        "key_hash": key_hash(letter.key),
        "first_failure_ms": failure.first_ms,
        "last_failure_ms": failure.last_ms,
    }


def _print_list(console: Console, found: list[BrowsedLetter]) -> None:
    from broker_bridge.clock import SystemClock
    from broker_bridge.core.replay_plan import key_hash

    if not found:
        console.print("No dead letters of this kind.")
        return
    now_ms = SystemClock().now_ms()
    rows = [
        (
            _place(one),
            one.state.value,
            f"{one.letter.failure.code} ({one.letter.failure.target_code})"
            if one.letter.failure.target_code
            else one.letter.failure.code,
            one.letter.failure.attempts,
            one.letter.hops,
            key_hash(one.letter.key),
            str(one.letter.origin),
            ago(one.letter.failure.last_ms, now_ms=now_ms),
        )
        for one in found
    ]
    columns = ("place", "state", "what went wrong", "attempts", "replays", "key", "origin", "last failure")
    console.print(table(columns, rows, right=("attempts", "replays")))


@group.command("show")
@config_option
@route_option
@click.argument("place")
@json_option
def show(*, config_path: Path, route_name: str | None, place: str, as_json: bool) -> None:
    """Show one dead letter whole: the failure, the record as it was, and what to do next.

    PLACE is partition/offset in the dead-letter topic. This prints the record's key and value.

    \b
    Example:
      broker-bridge dlq show 0/17

    \b
    Exit status: 0 done · 2 PLACE makes no sense · 3 nothing is there · 4 Kafka or Redis unavailable
    """
    from broker_bridge.cli.letter_view import letter_details, print_letter

    config = read_config(config_path)
    partition, offset = place_of(place)
    details = run_async(_show(config, route_name, partition, offset))
    result = letter_details(*details, suggester(config, config_path, details[0]))
    emit(result, human=lambda console: print_letter(console, result))


async def _show(
    config: BridgeConfig, route_name: str | None, partition: int, offset: int
) -> tuple[str, BrowsedLetter, object, str]:
    from broker_bridge.errors import BridgeError
    from broker_bridge.replay.dead_letters import DeadLetters

    async with open_scope(config, route_name) as scope:
        letters = DeadLetters(reader=scope.reader, store=scope.store, route=scope.route)
        browsed = await letters.show(partition, offset)
        value, why_not = None, ""
        try:
            decode = scope.decoder()
            if decode is not None and browsed.letter.value is not None:
                decoded = decode(browsed.letter.value, browsed.letter.headers)
                value = getattr(decoded, "value", decoded)
        except BridgeError as error:
            why_not = str(error)
        return scope.route.name, browsed, value, why_not


def _place(browsed: BrowsedLetter) -> str:
    return _short(browsed.letter.position)


def _short(position: Any) -> str:
    return f"{position.partition}/{position.offset}" if position is not None else ""
