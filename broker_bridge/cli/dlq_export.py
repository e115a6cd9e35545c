"""``broker-bridge dlq export``: dead letters into a file."""

from __future__ import annotations

import secrets
import sys
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from broker_bridge.cli.operator_identity import user_name
from broker_bridge.cli.operator_scope import (
    open_scope,
    route_option,
    selection_of,
    selection_options,
    suggester,
    topic_option,
)
from broker_bridge.cli.output import config_option, emit, json_option, note, read_config, run_async, to_json, wants_json

if TYPE_CHECKING:
    from broker_bridge.cli.operator_scope import OperatorScope
    from broker_bridge.config import BridgeConfig
    from broker_bridge.core.exported_letter import ExportEnd, ExportHeader
    from broker_bridge.core.letters import LetterState, Selection
    from broker_bridge.replay.export import ExportWriter
    from broker_bridge.replay.route import Decode

STDOUT = "-"


class _Exported(NamedTuple):
    export_id: str
    route: str
    end: ExportEnd
    written_bytes: int
    states: Counter[LetterState]
    not_compared: list[str]


@click.command("export")
@config_option
@route_option
@topic_option
@selection_options
@click.option("--out", required=True, metavar="FILE", help="Where to: a new file, or - for stdout.")
@click.option("--no-values", is_flag=True, help="Leave the decoded values out; the bytes are there all the same.")
@click.option("--why", default="", metavar="TEXT", help="A reason, for the record of operations.")
@json_option
def export(
    *,
    config_path: Path,
    route_name: str | None,
    topic: str | None,
    out: str,
    no_values: bool,
    why: str,
    as_json: bool,
    **given: Any,
) -> None:
    """Write dead letters to a file, every byte of them, one JSON line each.

    Nothing is removed from the topic. The file holds keys and payloads in the clear; it is readable by you only. It
    can be imported again, here or on another cluster, and be replayed from. A file appears under its name only once it
    is whole. The last line has a hash over all before it: a file that was cut or edited is refused later.

    \b
    Example:
      broker-bridge dlq export --code target_rejected --out rejected.jsonl
      broker-bridge dlq export --out - | jq -r 'select(.kind == "letter") | .value_json.order_id'

    \b
    Exit status: 0 done · 2 the file exists, or wrong option · 3 no such route or topic
                 4 Kafka or Redis unavailable · 130 stopped: there is no file
    """
    config = read_config(config_path)
    found = run_async(_export(config, route_name, topic, selection_of(given), out, with_values=not no_values, why=why))
    result = {
        "id": found.export_id,
        "route": found.route,
        "out": out,
        "letters": found.end.letters,
        "bytes": found.written_bytes,
        "sha256": found.end.sha256,
        "states": {state.value: count for state, count in sorted(found.states.items())},
        "not_compared": found.not_compared,
    }
    for sentence in found.not_compared:
        note(sentence)
    if out == STDOUT:
        if wants_json():
            click.echo(to_json(result), err=True)
        return
    suggest = suggester(config, config_path, found.route)
    emit(
        result,
        human=f"{found.end.letters:,} letters in {out} ({found.written_bytes:,} bytes).\n"
        f"To bring them back:  {suggest('dlq', 'import', out)}",
    )


async def _export(
    config: BridgeConfig,
    route_name: str | None,
    topic: str | None,
    selection: Selection,
    out: str,
    *,
    with_values: bool,
    why: str,
) -> _Exported:
    from broker_bridge.cli.progress import Progress
    from broker_bridge.core.exported_letter import ExportHeader
    from broker_bridge.core.operation import Action
    from broker_bridge.core.recorded_selection import recorded_selection
    from broker_bridge.core.timestamps import rfc3339
    from broker_bridge.replay.export_letters import export_letters

    export_id = f"export-{secrets.token_hex(8)}"
    async with open_scope(config, route_name) as scope:
        letters = scope.dead_letters(topic, whoever=True)
        await letters.ends()  # a topic that is not there is told before anything is written down
        header = ExportHeader(
            at=rfc3339(scope.clock.now_ms()),
            by=user_name(),
            route=scope.route.name,
            group=scope.route.group,
            topic=scope.route.topic,
            dead_letter_topic=topic or scope.route.dead_letter_topic,
            selection=selection.as_json(),
        )

        async def record(phase: str, counts: dict[str, int], **details: object) -> None:
            told = {"phase": phase, "selection": recorded_selection(selection), "out": Path(out).name, **details}
            operation = scope.operation(
                Action.LETTERS_EXPORTED, why=why, plan_id=export_id, counts=counts, details=told
            )
            await scope.operations.record(operation)

        decode = _decoder(scope) if with_values else None
        with _writer(out, header) as writer, Progress("exporting", unit="letters") as progress:
            await record("begun", {})
            states = await export_letters(
                letters,
                selection,
                writer,
                decode=decode,
                progress=lambda writer: progress.update(writer.letters, bytes=writer.written_bytes),
            )
            end = writer.finish()
            progress.update(end.letters)
            await record("ended", {"letters": end.letters}, sha256=end.sha256, bytes=writer.written_bytes)
        return _Exported(
            export_id, scope.route.name, end, writer.written_bytes, states, letters.not_compared.sentences()
        )


def _writer(out: str, header: ExportHeader) -> AbstractContextManager[ExportWriter]:
    from broker_bridge.replay.export import ExportWriter, new_export

    if out == STDOUT:
        return nullcontext(ExportWriter(sys.stdout.buffer, header))
    return new_export(Path(out), header)


def _decoder(scope: OperatorScope) -> Decode | None:
    """How to decode values; an export does not need that, so what stands against it is only told."""
    from broker_bridge.errors import BridgeError

    try:
        return scope.decoder()
    except BridgeError as error:
        note(f"Values are not decoded: {error}")
        return None
