"""Makes ``docs/cli.md`` of the commands themselves, so that it cannot say anything else than they do.

python tests/docs/command_page.py      writes the page; the tests compare
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from broker_bridge.cli import exit_codes
from broker_bridge.cli.main import PROGRAM, cli

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
KINDS = {"integer": "N", "float": "NUMBER"}
INTRO = """# Commands

<!-- Made by: python tests/docs/command_page.py -->

Results go to stdout; progress, warnings and errors to stderr. With `--json` the result is one JSON document, and an
error a problem document (RFC 9457). `--help` says all of this on the spot; `broker-bridge --version` tells the version,
and `broker-bridge --debug …` shows the traceback of an internal error.

An error names the place, what is wrong and what to do next; [Runbooks](runbooks.md) has a page for each code,
which `broker-bridge explain CODE` prints. The exit status is the same everywhere:

"""


def page() -> str:
    """The whole page."""
    statuses = "\n".join(line for line in (exit_codes.__doc__ or "").splitlines() if line.startswith("|"))
    parts = [INTRO + statuses + "\n"]
    for path, command, context in commands():
        parts.append(f"{'##' if len(path) == 1 else '###'} {PROGRAM} {' '.join(path)}\n")
        parts += [f"{paragraph}\n" for paragraph in prose(command)]
        rows = [row(parameter, context) for parameter in command.params]
        if rows:
            parts.append("\n".join(["| option | default | meaning |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def commands() -> Iterator[tuple[list[str], click.Command, click.Context]]:
    """Every command and group below the program, in the order of ``--help``."""
    yield from _below(cli, click.Context(cli, info_name=PROGRAM), [])


def _below(
    group: click.Group, context: click.Context, path: list[str]
) -> Iterator[tuple[list[str], click.Command, click.Context]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if command.hidden:
            continue
        own = click.Context(command, parent=context, info_name=name)
        yield [*path, name], command, own
        if isinstance(command, click.Group):
            yield from _below(command, own, [*path, name])


def prose(command: click.Command) -> Iterator[str]:
    """The paragraphs of its help; examples as a block."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        lines = [line.strip() for line in paragraph.removeprefix("\b\n").splitlines()]
        if lines[0].startswith("Example"):
            yield "\n".join(["```console", *(f"$ {line}" for line in lines[1:]), "```"])
        else:
            yield escaped(" · ".join(lines) if lines[0].startswith("Exit status") else " ".join(lines))
    if command.epilog:
        yield escaped(" ".join(command.epilog.replace("\b", "").split()))


def row(parameter: click.Parameter, context: click.Context) -> str:
    """One line of the table of options."""
    if isinstance(parameter, click.Argument):
        return f"| `{parameter.make_metavar(context)}` | | see above |"
    assert isinstance(parameter, click.Option)
    name = " / ".join(f"`{option}`" for option in [*parameter.opts, *parameter.secondary_opts])
    if isinstance(parameter.type, click.Choice):
        name += " " + ", ".join(f"`{choice}`" for choice in parameter.type.choices)
    elif not parameter.is_flag:
        kind = parameter.type.name.split()[0]
        name = f"`{'/'.join(parameter.opts)} {parameter.metavar or KINDS.get(kind, kind.upper())}`"
    meaning, _, stated = " ".join((parameter.help or "").split()).partition(" [default: ")
    return f"| {name} | {stated.removesuffix(']') or default(parameter, context)} | {escaped(meaning)} |"


def default(parameter: click.Option, context: click.Context) -> str:
    """What ``--help`` says it is."""
    if parameter.required:
        return "required"
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    return f"`{parameter.get_default(context)}`" if parameter.show_default else ""


def escaped(text: str) -> str:
    """Text in which Markdown sees nothing but text."""
    return text.replace("<", r"\<").replace("|", r"\|").replace("_TRANSITIVE", r"\_TRANSITIVE")


if __name__ == "__main__":
    PAGE.write_text(page())
