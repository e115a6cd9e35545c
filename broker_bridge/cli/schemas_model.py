"""`broker-bridge schemas model`: pydantic models from contracts, and whether the two have drifted apart."""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
from pathlib import Path

import click
from pydantic import BaseModel

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.output import emit, json_option
from broker_bridge.cli.schema_options import dir_option
from broker_bridge.contracts.contract import Contract
from broker_bridge.contracts.directory import SchemaDirectory
from broker_bridge.contracts.model_drift import Use, drift
from broker_bridge.contracts.model_generator import generate_models
from broker_bridge.errors import SchemaUnknownError, UsageError


@click.command(
    "model", epilog="Exit status: 0 written, or alike · 1 drifted · 2 bad input · 3 no such subject, or no generator."
)
@click.argument("subject")
@click.option("--version", type=click.IntRange(1), help="Which version.  [default: the newest]")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File to write; standard output without.")
@click.option(
    "--check", "model_name", metavar="MODULE:CLASS", help="Compare this model with the schema; write nothing."
)
@click.option(
    "--as",
    "use",
    type=click.Choice([use.value for use in Use]),
    default=Use.BOTH.value,
    show_default=True,
    help="What the checked model is for. A reader may leave out fields.",
)
@dir_option
@json_option
def model(
    subject: str,
    version: int | None,
    out: Path | None,
    model_name: str | None,
    use: str,
    folder: Path,
    *,
    as_json: bool,
) -> int:
    """Write pydantic models of SUBJECT's schema, or check a model (generated or written by hand) against it.

    Writing needs the extra: pip install 'broker-bridge[models]'. The check compares names, nulls, defaults and symbols,
    then sends sample values through the model and back: it finds what the model refuses, loses or changes.

    \b
    Example:
      broker-bridge schemas model shop.OrderPlaced --out events.py
      broker-bridge schemas model shop.OrderPlaced --check events:OrderPlaced
      broker-bridge schemas model shop.OrderPlaced --check handlers:Order --as reader
    """
    if out is not None and model_name is not None:
        raise UsageError("--out writes and --check does not", remedy="give one of them")
    contract = _contract(SchemaDirectory(folder, drafts=True), subject, version)
    name = {"subject": contract.subject, "version": contract.version}
    if model_name is not None:
        found = drift(_model(model_name), contract, Use(use))
        told = [f"{model_name} and {subject} version {contract.version}: " + ("they differ" if found else "alike")]
        result = {**name, "model": model_name, "alike": not found, "drift": [dataclasses.asdict(one) for one in found]}
        emit(result, human="\n".join([*told, *(f"  {one}" for one in found)]), as_json=as_json)
        return ExitCode.NO if found else ExitCode.OK
    source = generate_models(contract)
    if out is not None:
        out.write_text(source, encoding="utf-8")
    human = source.rstrip("\n") if out is None else f"{out} has the models of {subject} version {contract.version}"
    emit({**name, "file": str(out) if out else None, "source": source}, human=human, as_json=as_json)
    return ExitCode.OK


def _contract(directory: SchemaDirectory, subject: str, version: int | None) -> Contract:
    """A version that may be a draft: models are wanted before the schema is registered."""
    drafts = [one for one in directory.drafts if one.subject == subject]
    known = directory.versions(subject) if subject in directory.subjects() else []
    for contract in sorted([*known, *drafts], key=lambda one: one.version, reverse=True):
        if version in (None, contract.version):
            return contract
    what = subject if version is None else f"{subject} version {version}"
    raise SchemaUnknownError(f"the folder has no {what}", where=str(directory.path))


def _model(name: str) -> type[BaseModel]:
    """A model by module and class; the current directory is importable."""
    module_name, _, class_name = name.partition(":")
    if not module_name or not class_name:
        raise UsageError(f"{name!r} is not MODULE:CLASS", remedy="write it as in: --check events:OrderPlaced")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise UsageError(
            f"cannot import {module_name}: {type(error).__name__}: {error}",
            remedy="run where the module is importable, or set PYTHONPATH",
        ) from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise UsageError(f"{name} is no pydantic model", remedy="name a subclass of pydantic.BaseModel")
    return found
