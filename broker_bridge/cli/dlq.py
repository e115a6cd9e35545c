"""``broker-bridge dlq``: what is in the dead letters, and what became of it since."""

from __future__ import annotations

import click

from broker_bridge.cli.dlq_discard import discard
from broker_bridge.cli.dlq_export import export
from broker_bridge.cli.dlq_groups import groups
from broker_bridge.cli.dlq_import import import_letters
from broker_bridge.cli.dlq_list import list_letters
from broker_bridge.cli.dlq_show import show


@click.group("dlq")
def group() -> None:
    """Look into the dead letters: what went wrong, how often, and what became of it since.

    \b
    Example:
      broker-bridge dlq groups
      broker-bridge dlq list --code target_rejected --state waiting
      broker-bridge dlq show 0/17
      broker-bridge dlq export --code target_rejected --out rejected.jsonl
      broker-bridge dlq discard --code deadline_passed --why "refunded by hand"
    """


for _command in (groups, list_letters, show, export, import_letters, discard):
    group.add_command(_command)
