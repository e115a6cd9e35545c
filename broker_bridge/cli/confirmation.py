"""Having the operator say how many records a command is about: a number cannot be said by habit."""

from __future__ import annotations

import sys

import click

from broker_bridge.cli.output import note, wants_json
from broker_bridge.errors import UsageError


def confirm_count(count: int, given: int | None, *, yes: bool, about: str, undone: str) -> None:
    """Pass where ``given`` is ``count``, or ``yes``; ask on a terminal. ``about`` says of what there are so many
    (``letters to discard``), ``undone`` what did not happen (``nothing was discarded``). Raises ``UsageError``."""
    if yes:
        return
    if given is None and sys.stdin.isatty() and not wants_json():
        note(f"{count:,} {about}.")
        given = click.prompt("To go on, type that number", type=int, err=True)
    if given is None:
        raise UsageError(
            f"the count is not confirmed; {undone}",
            remedy=f"there are {count} {about}: --confirm-count {count}, or --yes",
        )
    if given != count:
        raise UsageError(f"there are {count} {about}, not {given}; {undone}")
