"""``broker-bridge doctor``: is everything in place, and what to do about what is not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.output import config_option, emit, json_option, plain, run_async

if TYPE_CHECKING:
    from rich.console import Console

    from broker_bridge.cli.checkup import Finding

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@click.command("doctor")
@config_option
@json_option
@click.pass_context
def command(context: click.Context, *, config_path: Path, as_json: bool) -> int:
    """Check Python, configuration, schemas, Kafka with its topics, Redis, targets, and the tools of the local stack.

    Exit status 0 when nothing failed (warnings may remain), else 1.

    \b
    Example:
      broker-bridge doctor --config bridge.toml
      broker-bridge doctor --json
    """
    from broker_bridge.cli.checkup import check_up

    named = context.get_parameter_source("config_path") is not ParameterSource.DEFAULT
    findings = run_async(check_up(config_path, config_needed=named))
    failed = any(finding.status == "fail" for finding in findings)
    result = {"ok": not failed, "findings": [plain(finding) for finding in findings]}
    emit(result, human=lambda console: _print(console, findings), as_json=as_json)
    return ExitCode.NO if failed else ExitCode.OK


def _print(console: Console, findings: list[Finding]) -> None:
    from rich.text import Text

    from broker_bridge.text import printable

    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        line = Text(f"{finding.status:<5}", style=STYLES[finding.status])
        line.append(f"{printable(finding.check):<{width}}  ", style="default")
        detail = printable(finding.detail, keep_newlines=True).replace("\n", "\n" + " " * (width + 7))
        line.append(detail, style="default")
        console.print(line, soft_wrap=True)
        if finding.remedy and finding.status != "ok":
            console.print(Text(f"{'':<{width + 7}}help: {printable(finding.remedy)}", style="dim"), soft_wrap=True)
    counts = {status: sum(finding.status == status for finding in findings) for status in STYLES}
    console.print(Text(f"{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} failed"))
