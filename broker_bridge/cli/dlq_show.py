"""``broker-bridge dlq show``: one dead letter whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker_bridge.cli.operator_scope import open_scope, place_of, route_option, suggester
from broker_bridge.cli.output import config_option, emit, json_option, read_config, run_async

if TYPE_CHECKING:
    from broker_bridge.config import BridgeConfig
    from broker_bridge.replay.dead_letters import BrowsedLetter


@click.command("show")
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
