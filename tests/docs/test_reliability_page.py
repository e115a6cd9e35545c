"""docs/reliability.md: its tests exist, its claim table is the code's, and no invariant or fault is missing."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from pages import ROOT, section

from broker_bridge.core.claim_rules import transition_table

PAGE = (ROOT / "docs" / "reliability.md").read_text()
STATUSES = {"shown", "in memory", "partly", "not yet"}


def names_of_tests(path: Path) -> set[str]:
    """Names of the tests of a file: functions, and test cases made of state machines."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in found if name.startswith(("test_", "Test"))}


def missing_tests(page: str) -> list[str]:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", page)
    assert named
    return [
        f"{file}::{name}"
        for file, name in named
        if not (path := ROOT / "tests" / file).exists() or name not in names_of_tests(path)
    ]


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    lines = [line for line in section(page, heading).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def test_the_tests_it_names_exist() -> None:
    assert missing_tests(PAGE) == []


def test_a_test_that_is_gone_is_noticed() -> None:
    assert missing_tests("`unit/test_audit.py::test_of_nothing` `nowhere.py::test_x`") == [
        "unit/test_audit.py::test_of_nothing",
        "nowhere.py::test_x",
    ]


def test_the_claim_table_is_that_of_the_code() -> None:
    table = PAGE.partition("transition_table() -->\n")[2].partition("\n<!-- end of claim table -->")[0]
    assert table == transition_table(), "run: python tests/docs/test_reliability_page.py"


def test_every_invariant_and_fault_has_a_status() -> None:
    invariants, faults = rows(PAGE, "Invariants"), rows(PAGE, "Fault matrix")
    assert [row[0] for row in invariants] == [f"I{number}" for number in range(1, 29)]
    assert [row[0] for row in faults] == [str(number) for number in range(1, 51)]
    assert {row[3] for row in [*invariants, *faults]} <= STATUSES


def test_what_is_shown_names_a_test_and_what_is_not_yet_names_none() -> None:
    for row in [*rows(PAGE, "Invariants"), *rows(PAGE, "Fault matrix")]:
        assert ("::" in row[4]) == (row[3] != "not yet"), row[:4]


def counted(page: str) -> str:
    """The sentence that counts the rows of the fault matrix."""
    statuses = [row[3] for row in rows(page, "Fault matrix")]
    counts = [statuses.count(status) for status in ("shown", "in memory", "partly", "not yet")]
    return "Of 50 rows {} are shown, {} in memory, {} partly, {} not yet.".format(*counts)


def in_step(page: str) -> str:
    """The page with its claim table and its counts anew."""
    before, _, rest = page.partition("transition_table() -->\n")
    after = rest.partition("\n<!-- end of claim table -->")[2]
    page = f"{before}transition_table() -->\n{transition_table()}\n<!-- end of claim table -->{after}"
    return re.sub(r"Of 50 rows .* not yet\.", counted(page), page)


def test_the_count_of_faults_is_right() -> None:
    assert counted(PAGE) in PAGE, "run: python tests/docs/test_reliability_page.py"


if __name__ == "__main__":
    (ROOT / "docs" / "reliability.md").write_text(in_step(PAGE))
