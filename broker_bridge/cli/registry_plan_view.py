"""What `schemas push` and `schemas pull` share: which registry is meant, the plan on a screen, and leave to do it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.output import DEFAULT_CONFIG, emit, note, run_async, table
from broker_bridge.contracts.registry_client import RegistryClient
from broker_bridge.contracts.registry_plan import Action, Plan, Step
from broker_bridge.errors import ConfigError, UsageError

Command = TypeVar("Command", bound=Callable[..., Any])
Run = Callable[[Callable[[Step], None]], Coroutine[Any, Any, None]]
"""Does the plan, and tells each step that is done."""


def registry_options(command: Command) -> Command:
    """Which registry, and whether to go ahead: for ``open_client`` and ``carry_out``."""
    options = [
        click.option(
            "--config",
            "config_path",
            type=click.Path(path_type=Path),
            default=DEFAULT_CONFIG,
            envvar="BROKER_BRIDGE_CONFIG",
            show_default=True,
            show_envvar=True,
            help="The configuration file, for its [registry]; not needed with --registry.",
        ),
        click.option("--registry", "url", metavar="URL", help="The registry, in place of [registry] url."),
        click.option("--dry-run", is_flag=True, help="Show the plan and end."),
        click.option("--yes", is_flag=True, help="Do not ask before the plan is carried out."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def open_client(config_path: Path, url: str | None) -> RegistryClient:
    """A client of the registry that is meant. Raises ``ConfigError`` where none is."""
    from broker_bridge.config import load_config

    environ = {**os.environ, "BROKER_BRIDGE_REGISTRY__URL": url} if url else os.environ
    named = url is not None or "BROKER_BRIDGE_REGISTRY__URL" in environ
    section = load_config(config_path, environ, may_miss=named).registry
    if section.url is None:
        raise ConfigError(
            "no registry is named",
            where=str(config_path),
            remedy='set [registry] url = "https://…", or add --registry URL',
        )
    return RegistryClient(section)


def carry_out(plan: Plan, run: Run, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Show the plan, ask, do it, and answer with the exit status. Nothing is done while there is a conflict."""
    if as_json and not (dry_run or yes):
        raise UsageError("with --json nobody is asked", remedy="add --dry-run, or --yes")
    if not as_json and plan.steps:
        emit(None, human=_table(plan.steps), as_json=False)
    if plan.conflicts or dry_run or not plan.changes:
        return _tell(plan, [], as_json=as_json, dry_run=dry_run)
    _confirm(plan, yes=yes)
    done: list[Step] = []
    try:
        run_async(run(done.append))
    except BaseException:
        if done:
            note(f"{len(done)} of {len(plan.changes)} steps were done: {', '.join(map(_place, done))}")
        raise
    return _tell(plan, done, as_json=as_json, dry_run=False)


def _confirm(plan: Plan, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("the plan is not confirmed", remedy="add --yes, or --dry-run to see it only")
    click.confirm(f"{len(plan.changes)} to do. Go ahead?", abort=True, err=True)


def _tell(plan: Plan, done: Sequence[Step], *, as_json: bool, dry_run: bool) -> int:
    found = {
        "ok": not plan.conflicts,
        "plan": [_row(step) for step in plan.steps],
        "conflicts": len(plan.conflicts),
        "done": [_row(step) for step in done],
    }
    if plan.conflicts:
        said = f"{len(plan.conflicts)} in conflict: nothing was changed"
    elif dry_run and plan.changes:
        said = f"{len(plan.changes)} to do"
    else:
        said = f"{len(done)} done" if done else "in step: nothing to do"
    emit(found, human="\n".join([*(f"{_place(step)} has id {step.schema_id}" for step in done), said]), as_json=as_json)
    return ExitCode.NO if plan.conflicts else ExitCode.OK


def _row(step: Step) -> dict[str, Any]:
    fields = {"action": step.action.value, "subject": step.subject, "version": step.version}
    return {**fields, "id": step.schema_id, "detail": step.detail}


def _place(step: Step) -> str:
    return f"{step.subject} version {step.version}"


def _table(steps: Sequence[Step]) -> Any:
    shown = sorted(steps, key=lambda one: one.action is not Action.CONFLICT)
    rows = [[one.action.value, one.subject, one.version, one.schema_id, one.detail] for one in shown]
    return table(("action", "subject", "version", "id", "why"), rows, right=("version", "id"))
