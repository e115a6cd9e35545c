"""``broker-bridge explain``: what an error code means, why, what to do next, and the command that proves the cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from broker_bridge.cli.exit_codes import status_of
from broker_bridge.cli.output import emit, json_option, table
from broker_bridge.errors import BridgeError, error_codes

if TYPE_CHECKING:
    from rich.console import Console

    from broker_bridge.cli.runbook import Runbook


def _complete(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    return [CompletionItem(code, help=kind.title) for code, kind in sorted(error_codes().items()) if begun in code]


@click.command("explain")
@click.argument("code", required=False, shell_complete=_complete)
@json_option
def command(*, code: str | None, as_json: bool) -> None:
    """Explain an error CODE: what happened, why, what it means for the records, what to do next, and the command
    that proves the cause. Without CODE: all there are.

    The code stands in error[CODE] on the command line, in logs, metrics, dead letters and problem documents. Needs no
    server and no configuration.

    \b
    Example:
      broker-bridge explain
      broker-bridge explain target_timeout
      broker-bridge explain offset_out_of_range --json

    \b
    Exit status: 0 explained · 3 no such code
    """
    if code is None:
        kinds = dict(sorted(error_codes().items()))
        result = [_facts(kind) for kind in kinds.values()]
        emit({"codes": result}, human=lambda console: _print_all(console, list(kinds.values())))
        return
    from broker_bridge.cli.runbook import find_runbook

    page = find_runbook(_bare(code))
    kind = error_codes()[page.code]
    sections = {heading.lower().replace(" ", "_"): text for heading, text in page.sections.items()}
    result_of_one = {**_facts(kind), "summary": page.summary, "sections": sections, "commands": list(page.commands)}
    emit(result_of_one, human=lambda console: _print_page(console, kind, page))


def _bare(code: str) -> str:
    """The code of ``error[CODE]`` or of a problem document's ``type``, however it was copied."""
    return code.strip().removeprefix("error").strip("[]:").rpartition(":")[2].lower()


def _facts(kind: type[BridgeError]) -> dict[str, object]:
    return {
        "code": kind.code,
        "title": kind.title,
        "class": kind.__name__,
        "retriable": kind.retriable,
        "exit_status": int(status_of(kind)),
    }


def _print_all(console: Console, kinds: list[type[BridgeError]]) -> None:
    rows = [(kind.code, kind.title, "yes" if kind.retriable else "", int(status_of(kind))) for kind in kinds]
    console.print(table(("code", "meaning", "may pass", "exit status"), rows, right=("exit status",)))


def _print_page(console: Console, kind: type[BridgeError], page: Runbook) -> None:
    passes = "may pass by itself" if kind.retriable else "does not pass by itself"
    facts = f"{kind.__name__} · {passes} · exit status {int(status_of(kind))}"
    parts = [f"# {page.code}: {kind.title}", facts, page.summary]
    parts += [f"## {heading}\n\n{text}" for heading, text in page.sections.items()]
    text = "\n\n".join(parts)
    if console.is_terminal:
        from rich.markdown import Markdown

        console.print(Markdown(text, hyperlinks=False))
    else:
        click.echo(text)
