"""`broker-bridge schemas pull`: the schemas of a registry into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker_bridge.cli.output import json_option, run_async
from broker_bridge.cli.registry_plan_view import carry_out, open_client, registry_options
from broker_bridge.cli.schema_options import dir_option

if TYPE_CHECKING:
    from broker_bridge.contracts.directory import SchemaDirectory


@click.command("pull")
@click.argument("subjects", metavar="[SUBJECT]...", nargs=-1)
@registry_options
@dir_option
@json_option
def pull(
    subjects: tuple[str, ...],
    config_path: Path,
    url: str | None,
    folder: Path,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Write the registry's schemas into the folder, under the registry's ids: all, or those of SUBJECT.

    The plan is shown first. Nothing that is in the folder is changed or removed, and nothing is done where an id or a
    version stands for something else in it. Types that other subjects define are written into each schema.

    \b
    Example:
      broker-bridge schemas pull --dry-run
      broker-bridge schemas pull shop.OrderPlaced --registry https://registry.example --yes

    \b
    Exit status: 0 in step · 1 conflicts · 2 bad input · 3 no such subject · 4 the registry is unavailable ·
    5 unsafe settings.
    """
    from broker_bridge.contracts.registry_pull import Pull

    client = open_client(config_path, url)
    pulling = Pull(client, _opened(folder) if folder.exists() else None, subjects=subjects)
    plan = run_async(pulling.plan())
    return carry_out(
        plan, lambda told: pulling.run(plan, _made(folder), told), dry_run=dry_run, yes=yes, as_json=as_json
    )


def _opened(folder: Path) -> SchemaDirectory:
    from broker_bridge.contracts.directory import SchemaDirectory

    return SchemaDirectory(folder, drafts=True)


def _made(folder: Path) -> SchemaDirectory:
    """The folder, made where it is not there."""
    from broker_bridge.contracts.ids_file import IDS_FILE

    folder.mkdir(parents=True, exist_ok=True)
    (folder / IDS_FILE).touch(exist_ok=True)
    return _opened(folder)
