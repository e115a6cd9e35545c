"""`broker-bridge schemas lint`: rules for schemas that shall live long."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.output import emit, json_option, table
from broker_bridge.cli.schema_options import dir_option
from broker_bridge.contracts.any_schema import AnySchema, parse_any, read_any
from broker_bridge.contracts.contract import Contract
from broker_bridge.contracts.directory import SchemaDirectory
from broker_bridge.contracts.lint import Finding, all_rules
from broker_bridge.contracts.lint import lint as findings_of
from broker_bridge.contracts.lint_rules import Severity
from broker_bridge.errors import UsageError

_Checked = tuple[str, AnySchema, AnySchema | None]
"""What a schema is called, the schema, and the version before it."""


@click.command(
    "lint", epilog="Exit status: 0 nothing to mend · 1 something is · 2 not a schema · 3 no such folder or subject."
)
@click.argument("what", metavar="[SUBJECT|FILE.avsc]...", nargs=-1)
@click.option("--strict", is_flag=True, help="Warnings end with status 1 too.")
@click.option("--rules", "show_rules", is_flag=True, help="List the rules, with the reason of each.")
@dir_option
@json_option
def lint(what: Sequence[str], folder: Path, *, strict: bool, show_rules: bool, as_json: bool) -> int:
    """Say what will hurt later in a schema: fields without defaults, times without units, names that clash, …

    Without arguments: the newest version of every subject. A version is also held against the one before it.
    A schema waives a rule at the node concerned, for all inside it: {"lint.waive": {"doc": "an internal type"}}.

    \b
    Example:
      broker-bridge schemas lint
      broker-bridge schemas lint shop.OrderPlaced new.avsc --strict
      broker-bridge schemas lint --rules
    """
    if show_rules:
        rules = [{"code": one.code, "severity": one.severity.value, "reason": one.reason} for one in all_rules()]
        columns = ("code", "severity", "reason")
        human = table(columns, [[one[key] for key in columns] for one in rules])
        emit({"rules": rules}, human=human, as_json=as_json)
        return ExitCode.OK
    checked = list(_schemas(what, folder))
    found = [(name, one) for name, schema, before in checked for one in findings_of(schema, before)]
    open_ones = [(name, one) for name, one in found if not one.waived]
    errors = [one for _, one in open_ones if one.severity == Severity.ERROR.value]
    failed = bool(open_ones if strict else errors)
    result = {
        "ok": not failed,
        "checked": len(checked),
        "errors": len(errors),
        "warnings": len(open_ones) - len(errors),
        "waived": len(found) - len(open_ones),
        "findings": [{"schema": name, **dataclasses.asdict(one)} for name, one in found],
    }
    emit(result, human=_told(result, open_ones), as_json=as_json)
    return ExitCode.NO if failed else ExitCode.OK


def _told(result: dict[str, Any], open_ones: Sequence[tuple[str, Finding]]) -> str:
    schemas = "1 schema" if result["checked"] == 1 else f"{result['checked']} schemas"
    counts = f"{result['errors']} errors, {result['warnings']} warnings, {result['waived']} waived"
    return "\n".join([f"{schemas} checked: {counts}", *(f"  {name}: {one}" for name, one in open_ones)])


def _schemas(what: Sequence[str], folder: Path) -> Iterator[_Checked]:
    for file in what:
        if file.endswith(".avsc"):
            yield _file(Path(file))
    subjects = [one for one in what if not one.endswith(".avsc")]
    if subjects or not what:
        yield from _subjects(subjects, SchemaDirectory(folder, drafts=True))


def _file(path: Path) -> _Checked:
    """A file, with the version before it where it lies in a folder of versions."""
    if not path.is_file():
        raise UsageError(f"there is no file {path}", remedy="name a schema file, or a subject of the folder")
    number = path.stem.removeprefix("v")
    before = path.with_name(f"v{int(number) - 1}.avsc") if number.isdecimal() else None
    return str(path), read_any(path), read_any(before, defaults=False) if before and before.is_file() else None


def _subjects(subjects: Sequence[str], directory: SchemaDirectory) -> Iterator[_Checked]:
    versions: dict[str, list[Contract]] = {}
    for contract in sorted([*directory.contracts(), *directory.drafts], key=lambda one: (one.subject, one.version)):
        versions.setdefault(contract.subject, []).append(contract)
    for subject in subjects or versions:
        if subject not in versions:
            directory.get(subject)
        *earlier, newest = versions[subject]
        yield newest.where, _any(newest), _any(earlier[-1]) if earlier else None


def _any(contract: Contract) -> AnySchema:
    return parse_any(contract.text, where=contract.where, defaults=False)
