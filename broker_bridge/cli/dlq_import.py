"""``broker-bridge dlq import``: exported dead letters back into the group's own dead-letter topic."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker_bridge.cli.confirmation import confirm_count
from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.operator_scope import Suggest, open_scope, route_option, suggester
from broker_bridge.cli.output import config_option, emit, json_option, read_config, run_async

if TYPE_CHECKING:
    from broker_bridge.config import BridgeConfig
    from broker_bridge.replay.export import ExportedFile
    from broker_bridge.replay.import_letters import Importer, ImportReport


@click.command("import")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@config_option
@route_option
@click.option("--from-group", metavar="GROUP", help="Take letters of this other group, of the same source topic.")
@click.option("--why", default="", metavar="TEXT", help="A reason, for the record of operations.")
@click.option("--execute", is_flag=True, help="Import. Without it only tells what would be imported.")
@click.option(
    "--confirm-count", "count", type=click.IntRange(min=0), metavar="N", help="How many letters the file has."
)
@click.option("--yes", is_flag=True, help="Do not ask for the count.")
@json_option
def import_letters(
    *,
    path: Path,
    config_path: Path,
    route_name: str | None,
    from_group: str | None,
    why: str,
    execute: bool,
    count: int | None,
    yes: bool,
    as_json: bool,
) -> ExitCode:
    """Bring the dead letters of FILE back into the route's own dead-letter topic; without --execute only tell.

    FILE is one that dlq export wrote: after retention, from another cluster, after a restore. Every byte comes back,
    and a letter that is there already is not written again, so the same command may be given again after Ctrl-C, a
    crash or an error. Nothing is executed: to have the messages handled, replay the letters. Where their claims have
    expired, or are another cluster's, that needs replay plan --allow-expired.

    \b
    Example:
      broker-bridge dlq import rejected.jsonl
      broker-bridge dlq import rejected.jsonl --execute --confirm-count 42 --why "restored after the disk failure"

    \b
    Exit status: 0 done · 2 the file is damaged, or the count is not confirmed · 3 no such file, route or topic
                 4 Kafka or Redis unavailable: give it again · 5 not this group's, or another import is going on
                 130 stopped: give it again
    """
    from broker_bridge.replay.export import ExportedFile

    config = read_config(config_path)
    with ExportedFile.open(path) as file:
        if execute:
            confirm_count(file.end.letters, count, yes=yes, about="letters in the file", undone="nothing was imported")
        route = route_name or (file.header.route if config.route(file.header.route) is not None else None)
        report, found = run_async(_import(config, route, file, from_group, execute=execute, why=why))
        suggest = suggester(config, config_path, found)
        result = {
            "file": str(path),
            "sha256": file.end.sha256,
            "id": report.import_id,
            "route": found,
            "executed": execute,
            "stopped": report.was_stopped,
            **report.counts,
        }
        emit(result, human=_text(report, path, suggest, execute=execute))
    return ExitCode.INTERRUPTED if report.was_stopped else ExitCode.OK


async def _import(
    config: BridgeConfig, route_name: str | None, file: ExportedFile, from_group: str | None, *, execute: bool, why: str
) -> tuple[ImportReport, str]:
    from broker_bridge.core.operation import Action
    from broker_bridge.replay.import_letters import Importer, check_file

    async with open_scope(config, route_name, writes=execute) as scope:
        check_file(file, scope.route, from_group=from_group)
        import_id = f"import-{secrets.token_hex(8)}"

        async def record(phase: str, counts: Mapping[str, int]) -> None:
            header = file.header
            told = {"phase": phase, "file": file.path.name, "sha256": file.end.sha256, "exported_at": header.at}
            told |= {"exported_by": header.by, "from_group": header.group}
            operation = scope.operation(
                Action.LETTERS_IMPORTED, why=why, plan_id=import_id, counts=counts, details=told
            )
            await scope.operations.record(operation)

        importer = Importer(
            reader=scope.reader,
            producer=scope.producer,
            store=scope.store,
            route=scope.route,
            clock=scope.clock,
            record=record,
            import_id=import_id,
        )
        report = await (_run(importer, file) if execute else _preview(importer, file))
        return report, scope.route.name


async def _preview(importer: Importer, file: ExportedFile) -> ImportReport:
    from broker_bridge.cli.progress import Progress

    with Progress("looking", total=file.end.letters, unit="letters") as progress:
        return await importer.preview(file, progress=lambda report: progress.update(report.looked_at))


async def _run(importer: Importer, file: ExportedFile) -> ImportReport:
    from broker_bridge.cli.progress import Progress
    from broker_bridge.cli.stop_signals import stop_event

    with stop_event() as stop, Progress("importing", total=file.end.letters, unit="letters") as progress:
        return await importer.run(
            file,
            stop=stop,
            progress=lambda report: progress.update(report.looked_at, imported=report.imported),
        )


def _text(report: ImportReport, path: Path, suggest: Suggest, *, execute: bool) -> str:
    would = "" if execute else " would be"
    lines = [
        f"{report.letters:>8,} letters in the file",
        f"{report.already_there:>8,} there already",
        f"{report.imported:>8,}{would} imported",
    ]
    if report.moved:
        lines.append(f"{report.moved:>8,} claims now name the letter that is here")
    if report.claim_expired:
        lines.append(f"{report.claim_expired:>8,} have no claim: a replay of them needs --allow-expired")
    again = suggest("dlq", "import", str(path), "--execute", "--confirm-count", str(report.letters))
    if not execute:
        lines += ["", "Nothing was written.", f"To import:  {again}"]
    elif report.was_stopped:
        lines += ["", f"Stopped. To go on:  {again}"]
    else:
        lines += ["", f"To have them handled:  {suggest('replay', 'plan', '--why', 'what was fixed')}"]
    return "\n".join(lines)
