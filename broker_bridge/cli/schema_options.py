"""Options that the commands of `broker-bridge schemas` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from broker_bridge.contracts.compatibility import Mode

Command = TypeVar("Command", bound=Callable[..., Any])
SCHEMA_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def dir_option(command: Command) -> Command:
    """`--dir`: which folder of schemas is meant."""
    option = click.option(
        "--dir",
        "folder",
        type=click.Path(path_type=Path),
        default=Path("schemas"),
        show_default=True,
        envvar="BROKER_BRIDGE_SCHEMAS",
        show_envvar=True,
        help="Folder of schemas: <subject>/v<N>.avsc and ids.jsonl.",
    )
    return option(command)


def mode_option(command: Command) -> Command:
    """`--mode`: which way data must flow between versions."""
    option = click.option(
        "--mode",
        type=click.Choice([mode.value for mode in Mode]),
        help="BACKWARD: the new schema reads old data. FORWARD: old ones read new data. FULL: both. "
        "_TRANSITIVE: against all earlier versions, not only the last.  [default: what the folder's compatibility.json "
        "says, else BACKWARD]",
    )
    return option(command)
