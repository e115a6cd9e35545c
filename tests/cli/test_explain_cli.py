"""``broker-bridge explain`` as it is typed: the page of a code, readable, as JSON, and what there is."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from broker_bridge.cli.runbook import SECTIONS
from broker_bridge.errors import error_codes

DEADLINE_S = 60.0


def explain(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """In an empty folder: no configuration, no server."""
    command = ["broker-bridge", "explain", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, cwd=cwd)


def on_a_terminal(*arguments: str, cwd: Path) -> str:
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as screen:
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "90"}
        command = ["broker-bridge", "explain", *arguments]
        process = subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, cwd=cwd, env=environment)
        os.close(theirs)
        shown = b""
        try:
            while chunk := screen.read(65536):
                shown += chunk
        except OSError:  # how a terminal says that nobody writes any more
            pass
        finally:
            assert process.wait(DEADLINE_S) == 0
    return shown.decode()


def test_a_page_as_text_for_pipes(tmp_path: Path) -> None:
    done = explain("topic_missing", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("# topic_missing: Topic does not exist\n")
    assert [line[3:] for line in done.stdout.splitlines() if line.startswith("## ")] == list(SECTIONS)
    assert "exit status 3" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_page_on_a_terminal(tmp_path: Path) -> None:
    shown = on_a_terminal("topic_missing", cwd=tmp_path)
    assert "Topic does not exist" in shown
    assert "## " not in shown
    assert "\x1b[" in shown
    assert "kafka-topics.sh" in shown


def test_a_page_as_json(tmp_path: Path) -> None:
    page = json.loads(explain("lease_lost", "--json", cwd=tmp_path).stdout)
    facts = {key: page[key] for key in ("code", "title", "class", "retriable", "exit_status")}
    assert facts == {
        "code": "lease_lost",
        "title": "Partition belongs to another worker",
        "class": "LeaseLostError",
        "retriable": False,
        "exit_status": 4,
    }
    assert list(page["sections"]) == [heading.lower().replace(" ", "_") for heading in SECTIONS]
    assert all(page["sections"].values())
    assert all(command in page["sections"]["prove_the_cause"] for command in page["commands"])
    assert page["commands"]


@pytest.mark.parametrize("written", ["error[fenced]:", "urn:broker-bridge:error:fenced", "FENCED", "[fenced]"])
def test_a_code_may_be_copied_as_it_stands(written: str, tmp_path: Path) -> None:
    assert explain(written, cwd=tmp_path).stdout.startswith("# fenced: ")


def test_all_codes_are_listed(tmp_path: Path) -> None:
    lines = explain(cwd=tmp_path).stdout.splitlines()
    assert sorted(line.split()[0] for line in lines[1:]) == sorted(error_codes())
    listed = json.loads(explain("--json", cwd=tmp_path).stdout)["codes"]
    assert [each["code"] for each in listed] == sorted(error_codes())


def test_a_code_that_is_not_there_gets_the_nearest(tmp_path: Path) -> None:
    done = explain("tpoic_missing", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert (
        done.stderr == "error[not_found]: there is no error code 'tpoic_missing'\nhelp: did you mean 'topic_missing'?\n"
    )
    problem = json.loads(explain("nothing_like_it", "--json", cwd=tmp_path).stderr)
    assert (problem["code"], problem["remedy"]) == ("not_found", "all codes: broker-bridge explain")
