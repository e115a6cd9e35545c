"""What commands print: results as JSON or for people, progress on stderr."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from broker_bridge.cli.output import console, emit, plain, table, to_json
from broker_bridge.cli.progress import Progress
from broker_bridge.core.claim import ClaimState
from broker_bridge.message import Position


@dataclasses.dataclass(slots=True)
class Report:
    where: Position
    state: ClaimState
    raw: bytes
    seen: frozenset[int]
    password: SecretStr


class Kind(enum.StrEnum):
    ONE = "one"


def test_results_become_json_by_their_fields() -> None:
    report = Report(Position("t", 1, 2), ClaimState.DEAD, b"\x00\xff", frozenset({3}), SecretStr("canary"))
    assert json.loads(to_json({"report": report, 5: Path("a/b"), "kind": Kind.ONE, "none": None})) == {
        "report": {
            "where": {"topic": "t", "partition": 1, "offset": 2},
            "state": "dead",
            "raw": "00ff",
            "seen": [3],
            "password": "**********",
        },
        "5": "a/b",
        "kind": "one",
        "none": None,
    }
    assert plain(Kind.ONE) == "one"
    assert type(plain(Kind.ONE)) is str


def test_a_result_is_json_or_words(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"a": 1}, human="one a", as_json=True)
    emit({"a": 1}, human="one a", as_json=False)
    emit({"a": 1}, human=lambda out: out.print("[bold] stays as it is"), as_json=False)
    assert capsys.readouterr().out == '{"a": 1}\none a\n[bold] stays as it is\n'


def test_tables_are_plain_where_no_terminal_is_and_cells_cannot_play_tricks(capsys: pytest.CaptureFixture[str]) -> None:
    emit(None, human=table(["topic", "count"], [["a\x1b[31m[red]", 12], [None, 3]], right=["count"]), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["topic", "count"], ["a\\x1b[31m[red]", "12"], ["3"]]
    assert lines[1].endswith("   12")
    assert not console().is_terminal


def test_progress_is_a_line_or_json_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("replaying", total=10, as_json=False) as progress:
        progress.advance(4)
        progress.update(10, failed=1)
    with Progress("replaying", total=2, unit="letters", as_json=True) as progress:
        progress.advance(2, skipped=0)
    captured = capsys.readouterr()
    assert captured.out == ""
    words, data = captured.err.splitlines()
    assert words.startswith("replaying: 10 of 10 records, failed 1 done (")
    assert json.loads(data).items() >= {
        "progress": "replaying", "done": 2, "total": 2, "unit": "letters", "skipped": 0, "ended": True,
    }.items()  # fmt: skip


def test_progress_that_breaks_off_does_not_say_done(capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(ValueError), Progress("reading", as_json=False) as progress:
        progress.advance(3)
        raise ValueError("stop")
    assert capsys.readouterr().err.startswith("reading: 3 records (")


def test_progress_tells_about_how_long_the_rest_takes(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("replaying", total=100, as_json=True) as progress:
        assert progress.left_ms(10_000) is None, "nothing is done yet"
        progress.update(20)
        assert progress.left_ms(10_000) == 40_000
        progress.update(120)
        assert progress.left_ms(10_000) == 0
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["left_ms"] is None


def test_a_terminal_gets_a_bar() -> None:
    program = (
        "from broker_bridge.cli.progress import Progress\n"
        "with Progress('replaying', total=8) as progress:\n    progress.advance(8, failed=0)"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    try:
        done = subprocess.run([sys.executable, "-c", program], stderr=theirs, timeout=60, env=environment)
        shown = os.read(ours, 65_536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0
    assert "━" in shown
    assert "8/8" in shown
    assert "failed 0" in shown


def test_a_narrow_terminal_folds_no_cell_and_breaks_no_command() -> None:
    program = (
        "from broker_bridge.cli.output import emit, table\n"
        "emit(None, human=table(['place', 'what went wrong'], [['payments.orders.placed.dlq/0/17', 'x' * 80]]))\n"
        "emit(None, human=lambda out: out.print('broker-bridge ' + 'word ' * 60 + 'end'))"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "40"}
    try:
        done = subprocess.run([sys.executable, "-c", program], stdout=theirs, timeout=60, env=environment)
        shown = os.read(ours, 65_536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0
    assert "payments.orders.placed.dlq/0/17  " + "x" * 80 in shown
    assert "broker-bridge " + "word " * 60 + "end" in shown
