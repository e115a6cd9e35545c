"""``broker-bridge dlq show``: one dead letter whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker_bridge.cli.operator_scope import open_scope, place_of, route_option, suggester, topic_option
from broker_bridge.cli.output import config_option, emit, json_option, read_config, run_async

if TYPE_CHECKING:
    from broker_bridge.cli.letter_view import ShownLetter
    from broker_bridge.cli.operator_scope import OperatorScope
    from broker_bridge.config import BridgeConfig
    from broker_bridge.core.dead_letter import DeadLetter


@click.command("show")
@config_option
@route_option
@click.argument("place")
@topic_option
@click.option("--stacktrace", is_flag=True, help="Also the stack trace, where who wrote the letter kept one.")
@json_option
def show(
    *, config_path: Path, route_name: str | None, place: str, topic: str | None, stacktrace: bool, as_json: bool
) -> None:
    """Show one dead letter whole: the failure, the record as it was, its history, and what to do next.

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
    shown = run_async(_show(config, route_name, topic, partition, offset))
    result = letter_details(shown, suggester(config, config_path, shown.route, topic=topic), stacktrace=stacktrace)
    emit(result, human=lambda console: print_letter(console, result))


async def _show(
    config: BridgeConfig, route_name: str | None, topic: str | None, partition: int, offset: int
) -> ShownLetter:
    from broker_bridge.cli.letter_view import ShownLetter
    from broker_bridge.replay.letter_history import history_of

    async with open_scope(config, route_name) as scope:
        browsed = await scope.dead_letters(topic).show(partition, offset)
        value, why_not = _decoded(scope, browsed.letter)
        history = await history_of(browsed.letter, reader=scope.reader, route=scope.route, operations=scope.operations)
        return ShownLetter(scope.route.name, browsed, value, why_not, history)


def _decoded(scope: OperatorScope, letter: DeadLetter) -> tuple[object, str]:
    """The value, and why there is none."""
    from broker_bridge.errors import BridgeError

    try:
        decode = scope.decoder()
        if decode is None or letter.value is None:
            return None, ""
        decoded = decode(letter.value, letter.headers)
    except BridgeError as error:
        return None, str(error)
    return getattr(decoded, "value", decoded), ""
