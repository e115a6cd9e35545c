"""The page of figures is made by the command from the published run, and by nobody's hand."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.catalogue import SCENARIOS  # noqa: E402 - the path comes first
from benchmarks.goals import GOALS  # noqa: E402
from benchmarks.page import PAGE, PLOT, PUBLISHED, page  # noqa: E402
from benchmarks.results import Row, Run, Section  # noqa: E402
from benchmarks.scenario import Metric  # noqa: E402

RATE, CPU = Metric("rate", "messages/s"), Metric("cpu_us", "CPU µs each", 1)


def section(name: str, *rows: Row, base: str | None = None, varied: str = "") -> Section:
    return Section(name, name.title(), "About it.", varied, [RATE, CPU], ["rate"], base, list(rows), load=[0.5, 1.0])


def row(contender: str, rates: list[float], value: float = 0, point: str = "", cpu_us: float = 10.0) -> Row:
    return Row(contender, contender.upper(), value, point, rounds=[{"rate": r, "cpu_us": cpu_us} for r in rates])


RUN = Run(
    {"processor": "one of a kind"},
    "python benchmarks --quick",
    [
        section(
            "throughput", row("batch_aiokafka", [9_000, 10_000, 12_000]), row("bridge", [11_000]), base="batch_aiokafka"
        ),
        section(
            "backlog",
            row("bridge", [5_000], 10, "10", cpu_us=40.0),
            row("bridge", [4_000], 100, "100", cpu_us=46.0),
            varied="messages waiting",
        ),
    ],
    65.0,
)


def test_a_table_shows_median_range_and_ratio() -> None:
    text = page(RUN)
    assert "| | messages/s | CPU µs each | messages/s ÷ BATCH_AIOKAFKA |" in text
    assert "| BATCH_AIOKAFKA | 10 000<br><sub>9 000–12 000</sub> | 10.0 |  |" in text
    assert "| BRIDGE | 11 000 | 10.0 | 1.10 × |" in text
    assert "| BRIDGE | 100 | 4 000 | 46.0 | 0.80 × |" in text
    assert "one of a kind" in text


def test_goals_are_met_or_not_or_not_measured() -> None:
    found = {goal.wanted.partition(" than")[0]: goal.met(RUN) for goal in GOALS}
    assert len(found) == len(GOALS)
    by_found = {goal.wanted: (goal.found(RUN), goal.met(RUN)) for goal in GOALS}
    assert by_found["one process at least 1.0 × the best batch loop by hand on aiokafka"] == (1.1, True)
    assert by_found["the same with the hot path compiled: at least 1.25 ×"] == (None, None)
    assert by_found["at least 40 × FastStream's loop with SET NX a record"] == (None, None)
    flat, met = by_found["CPU a message flat within 10 % over the backlog"]
    assert (flat, met) == (pytest.approx(15.0), False)


def test_figures_survive_their_file(tmp_path: Path) -> None:
    RUN.write(tmp_path / "run.json")
    assert Run.read(tmp_path / "run.json") == RUN


def test_what_was_not_measured_again_stays_published() -> None:
    again = Run({"processor": "another"}, "command", [section("backlog", row("bridge", [1]))])
    merged = again.over(RUN, ["throughput", "backlog", "latency"])
    assert [found.name for found in merged.sections] == ["throughput", "backlog"]
    assert (merged.machine, merged.median("backlog", "bridge", "rate")) == ({"processor": "another"}, 1)
    assert merged.median("throughput", "bridge", "rate") == 11_000


def made_by_the_command(text: str) -> bool:
    return text == page(Run.read(ROOT / PUBLISHED))


def test_the_published_page_is_what_the_published_run_gives() -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    assert made_by_the_command(text), "do not edit it; run: python benchmarks --quick --write-docs"
    assert not made_by_the_command(text.replace(" ms |", "0 ms |", 1))
    assert (ROOT / PLOT).read_bytes().startswith(b"\x89PNG")


def test_every_scenario_is_published_with_every_contender() -> None:
    run = Run.read(ROOT / PUBLISHED)
    assert [section.name for section in run.sections] == list(SCENARIOS)
    for found in run.sections:
        scenario = SCENARIOS[found.name](quick=found.mode == "quick")
        expected = {(c.name, p.value) for c in scenario.contenders for p in scenario.points()}
        assert {(row.contender, row.value) for row in found.rows} == expected
        assert all(len(row.rounds) == scenario.rounds for row in found.rows)


def strangers(readme: str, published: str) -> list[str]:
    """Rates and ratios of the README's table that the page of figures does not have."""
    table = readme.partition("## How fast it is")[2].partition("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 4
    quoted = [cell.strip(" |") for cells in rows for cell in cells[1:]]
    return [
        figure for figure in quoted if figure != "1" and not re.search(rf"\| {re.escape(figure)}(<| \|)", published)
    ]


def test_the_readme_quotes_the_published_figures() -> None:
    readme, published = (ROOT / "README.md").read_text(), (ROOT / "docs" / "benchmarks.md").read_text()
    assert strangers(readme, published) == []
    first = next(line for line in readme.splitlines() if line.startswith("| FastStream, SET NX"))
    assert strangers(readme.replace(first, "| FastStream, SET NX a record | 5 | 0.02 × |"), published) == ["5"]
