"""`broker-bridge schemas`: the Avro contracts of a folder, and what may follow them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.output import emit, json_option, table
from broker_bridge.cli.schema_options import SCHEMA_FILE, dir_option, mode_option
from broker_bridge.cli.schemas_conformance import conformance
from broker_bridge.cli.schemas_consumers import ask_consumers
from broker_bridge.cli.schemas_fingerprint import fingerprint
from broker_bridge.cli.schemas_lint import lint
from broker_bridge.cli.schemas_model import model
from broker_bridge.cli.schemas_pull import pull
from broker_bridge.cli.schemas_push import push
from broker_bridge.cli.schemas_serve import serve
from broker_bridge.contracts import golden as vectors
from broker_bridge.contracts.any_schema import read_any
from broker_bridge.contracts.codec import Codec
from broker_bridge.contracts.compatibility import Mode, Problem, check
from broker_bridge.contracts.contract import UNREGISTERED, Contract
from broker_bridge.contracts.directory import SchemaDirectory
from broker_bridge.contracts.golden_wire import verify_wire_forms
from broker_bridge.contracts.levels import DEFAULT_LEVEL, Levels, read_levels
from broker_bridge.contracts.upcasters import load_upcasters
from broker_bridge.errors import UsageError
from broker_bridge.replay.who_breaks import can_read_upcast
from broker_bridge.transport.partitioning import partition_of


@click.group("schemas")
def group() -> None:
    """List, check and register the Avro schemas that are the contract between services.

    \b
    Example:
      broker-bridge schemas list
      broker-bridge schemas check
      broker-bridge schemas register shop.OrderPlaced
    """


group.add_command(serve)
group.add_command(push)
group.add_command(pull)
group.add_command(lint)
group.add_command(fingerprint)
group.add_command(model)
group.add_command(conformance)


@group.command("list", epilog="Exit status: 0 listed · 2 a file is damaged · 3 no such folder.")
@dir_option
@json_option
def list_(folder: Path, *, as_json: bool) -> None:
    """Show every schema with the id it has on the wire.

    \b
    Example:
      broker-bridge schemas list --dir schemas --json
    """
    directory = SchemaDirectory(folder, drafts=True)
    contracts = sorted([*directory.contracts(), *directory.drafts], key=lambda one: (one.subject, one.version))
    rows = [_row(contract) for contract in contracts]
    columns = ("subject", "version", "id", "fields", "sha256", "file")
    shown = [
        [row["subject"], row["version"], row["id"] or "draft", len(row["fields"]), row["sha256"][:12], row["file"]]
        for row in rows
    ]
    emit({"schemas": rows}, human=table(columns, shown, right=("version", "id", "fields")), as_json=as_json)


def _row(contract: Contract) -> dict[str, Any]:
    return {
        "subject": contract.subject,
        "version": contract.version,
        "id": None if contract.schema_id == UNREGISTERED else contract.schema_id,
        "fields": list(contract.fields),
        "sha256": contract.sha256,
        "file": contract.where,
    }


@group.command(
    "check",
    epilog="Exit status: 0 compatible · 1 incompatible, or a route breaks · 2 bad input · 3 no such folder · "
    "4 Kafka or the registry is unavailable.",
)
@click.argument("new", metavar="[NEW.avsc]", required=False, type=SCHEMA_FILE)
@click.option(
    "--against", multiple=True, type=SCHEMA_FILE, metavar="OLD.avsc", help="An earlier version; repeat it, oldest last."
)
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), help="Also say which of its routes NEW.avsc breaks."
)
@click.option("--live", is_flag=True, help="With --config: whether the records in Kafka would still decode.")
@click.option(
    "--samples", type=click.IntRange(1, 100_000), default=1_000, show_default=True, help="Newest records of each topic."
)
@click.option("--upcasters", metavar="MODULE", help="For a folder: module of upcasters that lead where Avro cannot.")
@mode_option
@dir_option
@json_option
def check_(
    new: Path | None,
    against: Sequence[Path],
    config_path: Path | None,
    samples: int,
    upcasters: str | None,
    mode: str | None,
    folder: Path,
    *,
    live: bool,
    as_json: bool,
) -> int:
    """Say whether a schema may follow earlier ones; without arguments check a whole folder.

    The folder's check covers every file, id and hash, and each version against the versions before it.
    With --config, NEW.avsc is held against the versions that are registered, unless --against names others, at the
    level that the folder keeps for its subject, and each route is told of that reads or writes it: which fails, at
    which field, and what to do first.

    \b
    Example:
      broker-bridge schemas check
      broker-bridge schemas check --upcasters shop.upcasters
      broker-bridge schemas check new.avsc --against v2.avsc --against v1.avsc --mode FULL_TRANSITIVE
      broker-bridge schemas check new.avsc --config bridge.toml --live
    """
    if live and config_path is None:
        raise UsageError("--live needs the routes whose topics are read", remedy="add --config bridge.toml")
    wanted = Mode(mode) if mode else None
    consumers = ask_consumers(new, config_path, wanted, live=live, samples=samples) if new and config_path else None
    levels = Levels(wanted or (consumers.mode if consumers else DEFAULT_LEVEL))
    if wanted is None and new is None:
        levels = read_levels(folder)
    chosen = levels.default
    if upcasters and new is not None:
        raise UsageError("--upcasters is for a whole folder", remedy="with --config those that it names are taken")
    if new is None:
        if against or config_path:
            raise UsageError(
                "--against and --config need the schema that is to be checked",
                remedy="broker-bridge schemas check NEW.avsc --against OLD.avsc",
            )
        checked, problems = _check_folder(SchemaDirectory(folder), levels, upcasters)
    elif consumers is not None and not against:
        checked, problems = 1, check(read_any(new), consumers.earlier, chosen)
    elif not against:
        raise UsageError(
            f"{new} is to be checked against nothing", remedy="name earlier versions with --against, oldest last"
        )
    else:
        earlier = [read_any(one, defaults=False) for one in reversed(against)]
        checked, problems = 1, check(read_any(new), earlier, chosen)
    found = {
        "compatible": not problems,
        "mode": chosen.value,
        **({"levels": levels.subjects} if levels.subjects else {}),
        "checked": checked,
        "problems": [dataclasses.asdict(problem) for problem in problems],
        **(consumers.as_json() if consumers else {}),
    }
    told = [_verdict(checked, problems, levels), *(consumers.lines() if consumers else ())]
    emit(found, human="\n".join(told), as_json=as_json)
    return ExitCode.NO if problems or (consumers is not None and consumers.refuse) else ExitCode.OK


def _check_folder(directory: SchemaDirectory, levels: Levels, module: str | None) -> tuple[int, list[Problem]]:
    codec = Codec(directory, upcasters=load_upcasters(module)) if module else None
    read = partial(can_read_upcast, codec) if codec else None
    problems: list[Problem] = []
    checked = 0
    for subject in directory.subjects():
        versions = directory.versions(subject)
        checked += len(versions)
        for contract in versions:
            directory.require_unedited(contract)
        for number in range(1, len(versions)):
            problems += check(versions[number], versions[:number], levels.of(subject), read=read)
    return checked, problems


def _verdict(checked: int, problems: Sequence[Problem], levels: Levels) -> str:
    schemas = "1 schema" if checked == 1 else f"{checked} schemas"
    own = f" ({len(levels.subjects)} by levels of their own)" if levels.subjects else ""
    if not problems:
        return f"{schemas} checked: {levels.default.value} compatible{own}"
    lines = [f"  {problem}" for problem in problems]
    return "\n".join([f"{schemas} checked: not {levels.default.value} compatible{own}", *lines])


@group.command("register", epilog="Exit status: 0 registered · 1 incompatible · 2 bad input · 3 no such file.")
@click.argument("subject")
@click.option("--version", type=click.IntRange(1), help="Which version.  [default: the next one]")
@mode_option
@dir_option
@json_option
def register(subject: str, version: int | None, mode: str | None, folder: Path, *, as_json: bool) -> None:
    """Give the next id to SUBJECT's new schema file and write it into ids.jsonl.

    The file must be there already, as <dir>/SUBJECT/v<N>.avsc. Ids are never used again; asking twice gives one id.

    \b
    Example:
      broker-bridge schemas register shop.OrderPlaced
    """
    level = Mode(mode) if mode else read_levels(folder).of(subject)
    contract = SchemaDirectory(folder, drafts=True).register(subject, version, mode=level)
    emit(
        _row(contract),
        human=f"{contract.subject} version {contract.version} has id {contract.schema_id}",
        as_json=as_json,
    )


@group.command(
    "golden", epilog="Exit status: 0 all as stated · 1 a vector is wrong · 2 a vector is damaged · 3 none there."
)
@click.option(
    "--check/--write",
    "only_check",
    default=True,
    help="Verify the vectors (default), or write what follows from their values.",
)
@click.option("--upcasters", "module", metavar="MODULE", help="Module of upcasters that another version reads through.")
@dir_option
@json_option
def golden(folder: Path, module: str | None, *, only_check: bool, as_json: bool) -> int:
    """Verify the golden vectors: bytes, schema ids, partitions, wire forms, and the value another version reads.

    \b
    Example:
      broker-bridge schemas golden
      broker-bridge schemas golden --upcasters shop.upcasters
      broker-bridge schemas golden --write
    """
    codec = Codec(SchemaDirectory(folder), upcasters=load_upcasters(module) if module else None)
    reports = [*vectors.verify(codec, partition_of), *verify_wire_forms(folder, codec)]
    written = [] if only_check else [report.file for report in reports if vectors.write(report)]
    if written:
        reports = [*vectors.verify(codec, partition_of), *verify_wire_forms(folder, codec)]
    wrong = [report for report in reports if report.problems]
    found = {
        "ok": not wrong,
        "written": [str(file) for file in written],
        "vectors": [{"file": str(one.file), "ok": not one.problems, "problems": one.problems} for one in reports],
    }
    lines = [f"{len(reports)} golden vectors, {len(wrong)} wrong, {len(written)} written"]
    lines += [f"  {one.file}: {problem}" for one in wrong for problem in one.problems]
    emit(found, human="\n".join(lines), as_json=as_json)
    return ExitCode.NO if wrong else ExitCode.OK
