"""The end of a run tells the truth: what does not hold is on the screen, in the report and in the exit status."""

from __future__ import annotations

import pytest
from demo.checks import Verdict, run_all
from demo.faults import Fault
from demo.final_table import print_final_table
from demo.places import RunFolder
from demo.report import report
from demo.screen import PlainScreen, plain_console
from demo.settings import Settings
from demo.story import Outcome
from demo.watching import Watch
from demo_world import O4_APPLIED_AT, good_run

LINES_AT_MOST = 45


def outcome_of(folder: RunFolder, *, lose_an_order: bool) -> Outcome:
    evidence = good_run()
    if lose_an_order:
        evidence.effects.pop(O4_APPLIED_AT)
    stream = {"events": 6, "duplicates": 1, "kinds": {"order": 3}, "schema_versions": {"1": 6}}
    troubles = [
        Fault(name, name, 0.1, 0.0, lambda: None, begun_s=1.0, ended_s=2.0) for name in ("worker", "redis", "x")
    ]
    return Outcome(
        Settings(),
        languages={"orders": "Go", "payments": "Rust"},
        stream=stream,
        faults=troubles,
        groups=[{"count": 2, "code": "avro_malformed", "target_code": ""}],
        replay={"counts": {"completed": 1}},
        evidence=evidence,
        verdicts=run_all(evidence),
        watch=Watch(folder),
    )


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return RunFolder(tmp_path_factory.mktemp("run"))


def test_a_run_that_holds_says_so_on_one_screen(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = outcome_of(folder, lose_an_order=False)
    print_final_table(outcome, folder, PlainScreen(plain_console()))
    lines = capsys.readouterr().out.splitlines()
    assert outcome.holds
    assert any(line.startswith("Everything holds: 7 records accounted for") for line in lines)
    assert len([line for line in lines if line.startswith("✓")]) == 10
    assert len(lines) <= LINES_AT_MOST
    assert all(line == line.rstrip() for line in lines)
    assert report(outcome, {"stream": 1.0}, None)["holds"] is True


def test_a_run_that_does_not_hold_names_what_and_whom(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = outcome_of(folder, lose_an_order=True)
    print_final_table(outcome, folder, PlainScreen(plain_console()))
    printed = capsys.readouterr().out
    assert not outcome.holds
    assert "It does NOT hold: accounts, effects, results, audit." in printed
    assert "o4: never applied" in printed
    assert "Everything holds" not in printed
    told = report(outcome, {}, None)
    assert told["holds"] is False
    assert [check["name"] for check in told["checks"] if not check["holds"]] == [
        "accounts",
        "effects",
        "results",
        "audit",
    ]


def test_nothing_compared_is_nothing_that_holds(folder: RunFolder) -> None:
    assert not Outcome(Settings()).holds
    assert not Outcome(Settings(), verdicts=[Verdict("a", "b"), Verdict("c", "d", offenders=["e"])]).holds
    told = report(outcome_of(folder, lose_an_order=False), {}, ValueError("died"))
    assert (told["holds"], told["failure"]) == (False, "died")
