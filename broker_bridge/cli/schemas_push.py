"""`broker-bridge schemas push`: the schemas of a folder into a registry."""

from __future__ import annotations

from pathlib import Path

import click

from broker_bridge.cli.output import json_option, run_async
from broker_bridge.cli.registry_plan_view import carry_out, open_client, registry_options
from broker_bridge.cli.schema_options import dir_option


@click.command("push")
@click.argument("subjects", metavar="[SUBJECT]...", nargs=-1)
@registry_options
@click.option(
    "--renumber",
    is_flag=True,
    help="Where the registry gives other ids, take them into ids.jsonl. Values under the old ids can then not be read.",
)
@dir_option
@json_option
def push(
    subjects: tuple[str, ...],
    config_path: Path,
    url: str | None,
    folder: Path,
    *,
    dry_run: bool,
    yes: bool,
    renumber: bool,
    as_json: bool,
) -> int:
    """Register the folder's schemas at a registry: all, or those of SUBJECT.

    The plan is shown first. A schema that has no id in ids.jsonl yet gets the registry's; one that has an id must get
    the same. Nothing is done where a version would be incompatible, an id or a version stands for something else
    there, or a subject was deleted.

    \b
    Example:
      broker-bridge schemas push --dry-run
      broker-bridge schemas push shop.OrderPlaced --registry http://127.0.0.1:8081 --yes

    \b
    Exit status: 0 in step · 1 conflicts, or the registry refused a version · 2 bad input, or another id was given ·
    3 no such folder or subject · 4 the registry is unavailable · 5 unsafe settings.
    """
    from broker_bridge.contracts.directory import SchemaDirectory
    from broker_bridge.contracts.registry_push import Push

    client = open_client(config_path, url)
    pushing = Push(client, SchemaDirectory(folder, drafts=True), subjects=subjects, renumber=renumber)
    plan = run_async(pushing.plan())
    return carry_out(plan, lambda told: pushing.run(plan, told), dry_run=dry_run, yes=yes, as_json=as_json)
