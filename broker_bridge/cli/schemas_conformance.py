"""`broker-bridge schemas conformance`: is a program's codec, in any language, one that keeps to the wire contract?"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.output import emit, json_option
from broker_bridge.cli.schema_options import dir_option
from broker_bridge.contracts.conformance import RULES, Check, all_checks, folder_kit, own_kit, shown
from broker_bridge.contracts.conformance_program import Noise, Outcome, Program, Verdict
from broker_bridge.core.duration import parse_duration_ms
from broker_bridge.errors import UsageError

_SHOWN_PER_RULE: Final = 10
_EXPECTED_CHARS: Final = 300


@click.command(
    "conformance",
    epilog="Exit status: 0 all answers are right · 1 one is not · 2 bad usage, a program that cannot be started, or "
    "a vector that is damaged.",
)
@click.argument("command", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--only", multiple=True, metavar="PATTERN", help="Only vectors of such names, like 'own/*'; repeat it.")
@click.option("--timeout", default="10s", show_default=True, metavar="DURATION", help="How long an answer may take.")
@dir_option
@json_option
def conformance(command: Sequence[str], only: Sequence[str], timeout: str, folder: Path, *, as_json: bool) -> int:
    """Ask your own program, in any language, to read and write values of every type, and say where it differs.

    COMMAND reads questions on stdin and answers on stdout, one JSON object a line. Asked are the vectors that come with
    broker_bridge (kit/...), written by Python, Go and Rust, and the golden vectors of the folder (own/...): decoded,
    encoded, read as another version; values cut, damaged or invalid, which must be refused; and partitions of keys.
    docs/guides/conformance.md has the protocol, and adapters in Go and Rust to copy.

    \b
    Example:
      broker-bridge schemas conformance -- ./orders conformance
      broker-bridge schemas conformance --only 'own/*' --json -- cargo run --quiet --bin codec
    """
    try:
        timeout_ms = parse_duration_ms(timeout)
    except ValueError as error:
        raise UsageError(f"--timeout {timeout!r} {error}") from error
    checks = _chosen(all_checks([own_kit(), folder_kit(folder)]), only)
    program = Program(command, timeout_ms / 1000)
    verdicts = list(program.verdicts(checks))
    failed = _failed(verdicts, program.noise)
    emit(_found(command, verdicts, program.noise), human="\n".join(_told(verdicts, program.noise)), as_json=as_json)
    return ExitCode.NO if failed else ExitCode.OK


def _chosen(checks: list[Check], only: Sequence[str]) -> list[Check]:
    if not only:
        return checks
    chosen = [check for check in checks if any(fnmatch.fnmatchcase(check.vector, pattern) for pattern in only)]
    if not chosen:
        raise UsageError(
            f"no vector is called {' or '.join(only)}", remedy="names are kit/decimals-low, own/<file of golden/> …"
        )
    return chosen


def _failed(verdicts: Sequence[Verdict], noise: Noise) -> bool:
    """Also where nothing was answered but "skip": nothing was shown then."""
    outcomes = {verdict.outcome for verdict in verdicts}
    return noise.lines > 0 or any(outcome.is_failure for outcome in outcomes) or Outcome.OK not in outcomes


def _found(command: Sequence[str], verdicts: Sequence[Verdict], noise: Noise) -> dict[str, Any]:
    return {
        "ok": not _failed(verdicts, noise),
        "command": list(command),
        "counts": dict(Counter(verdict.outcome.value for verdict in verdicts)),
        "stray_lines": noise.lines,
        "first_stray_line": noise.first or None,
        "checks": [_row(verdict) for verdict in verdicts],
    }


def _row(verdict: Verdict) -> dict[str, Any]:
    check = verdict.check
    row: dict[str, Any] = {
        "vector": check.vector,
        "rule": check.rule,
        "outcome": verdict.outcome.value,
        "why": check.why,
    }
    if verdict.outcome.is_failure:
        row |= {"ask": check.ask, "expected": check.expected}
    return row | ({"got": verdict.got} if verdict.got else {})


def _told(verdicts: Sequence[Verdict], noise: Noise) -> Iterator[str]:
    failures = sum(verdict.outcome.is_failure for verdict in verdicts)
    vectors = len({verdict.check.vector for verdict in verdicts})
    yield f"{vectors} vectors, {len(verdicts)} checks, {failures} failed"
    for rule in RULES:
        of_rule = [verdict for verdict in verdicts if verdict.check.rule == rule]
        if of_rule:
            counts = Counter(verdict.outcome.value for verdict in of_rule)
            yield f"  {rule:<13}" + ", ".join(f"{counts[one]} {one}" for one in Outcome if counts[one])
    for rule in RULES:
        bad = [one for one in verdicts if one.check.rule == rule and one.outcome.is_failure]
        for verdict in bad[:_SHOWN_PER_RULE]:
            yield from _lines(verdict)
        if len(bad) > _SHOWN_PER_RULE:
            yield f"{rule}: {len(bad) - _SHOWN_PER_RULE} more, all of them with --json"
    if noise.lines:
        yield f"{noise.lines} lines on stdout answer nothing (logs belong on stderr); the first: {noise.first}"
    if all(verdict.outcome is Outcome.SKIPPED for verdict in verdicts):
        yield "every question was skipped: nothing is shown by that"


def _lines(verdict: Verdict) -> Iterator[str]:
    check = verdict.check
    yield f"{verdict.outcome}: {check.vector}, {check.rule}" + (f" ({check.why})" if check.why else "")
    if verdict.outcome is Outcome.DIFFERS:
        expected = check.expected if isinstance(check.expected, str) else shown(check.expected)
        yield f"  expected {expected[:_EXPECTED_CHARS]}"
    yield f"  got      {verdict.got}"
