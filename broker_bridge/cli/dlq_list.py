"""``broker-bridge dlq list``: dead letters, one a line."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker_bridge.cli.letter_view import short_place, tell_not_compared
from broker_bridge.cli.operator_scope import (
    ago,
    open_scope,
    route_option,
    selection_of,
    selection_options,
    suggester,
    topic_option,
)
from broker_bridge.cli.output import config_option, emit, json_option, note, read_config, run_async, table

if TYPE_CHECKING:
    from rich.console import Console

    from broker_bridge.config import BridgeConfig
    from broker_bridge.core.letter_filter import NotCompared
    from broker_bridge.core.letters import Selection
    from broker_bridge.replay.dead_letters import BrowsedLetter


@click.command("list")
@config_option
@route_option
@selection_options
@topic_option
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@json_option
def list_letters(
    *, config_path: Path, route_name: str | None, topic: str | None, limit: int, as_json: bool, **given: Any
) -> None:
    """List dead letters, each with its state; record keys are shown as hashes.

    \b
    Example:
      broker-bridge dlq list --state waiting --since 2h --limit 20
      broker-bridge dlq list --header ce_type=shop.OrderPlaced --where 'amount_cents > 1000'

    \b
    Exit status: 0 done · 3 no such route or topic · 4 Kafka or Redis unavailable
    """
    config = read_config(config_path)
    route, found, more, not_compared = run_async(_list(config, route_name, topic, selection_of(given), limit))
    result = {
        "route": route,
        "letters": [_letter_json(one) for one in found],
        "more": more,
        "not_compared": not_compared.as_json(),
    }
    emit(result, human=lambda console: _print_list(console, found))
    tell_not_compared(not_compared)
    if more:
        note(f"There are more than {limit}; narrow the filters or raise --limit.")
    elif found:
        suggest = suggester(config, config_path, route, topic=topic)
        note(f"Look at one: {suggest('dlq', 'show', short_place(found[0].letter.position))}")


async def _list(
    config: BridgeConfig, route_name: str | None, topic: str | None, selection: Selection, limit: int
) -> tuple[str, list[BrowsedLetter], bool, NotCompared]:
    async with open_scope(config, route_name) as scope:
        found: list[BrowsedLetter] = []
        letters = scope.dead_letters(topic, whoever=True)
        async with aclosing(letters.browse(selection)) as batches:
            async for batch in batches:
                found.extend(batch)
                if len(found) > limit:
                    break
        return scope.route.name, found[:limit], len(found) > limit, letters.not_compared


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
        "release": letter.release or None,
        "writer": letter.writer or None,
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
            short_place(one.letter.position),
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
