"""The benchmarks' own machinery: wrong work is no figure, rounds are interleaved, numbers are what they say."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.catalogue import SCENARIOS  # noqa: E402 - the path comes first
from benchmarks.crew import Look, all_at_work, as_toml, together  # noqa: E402
from benchmarks.job import PAYMENT, Job, Source, answer, open_contracts  # noqa: E402
from benchmarks.meter import percentile  # noqa: E402
from benchmarks.peers.bridge import SETTINGS  # noqa: E402
from benchmarks.processes import Report, work  # noqa: E402
from benchmarks.rounds import run_one  # noqa: E402
from benchmarks.scenario import Contender, Figures, Metric, Point, Scenario, Trial, WrongWorkError  # noqa: E402
from benchmarks.stopwatch import Stopwatch  # noqa: E402
from benchmarks.verifying import check_keys, check_results  # noqa: E402
from broker_bridge.config import config_from  # noqa: E402
from broker_bridge.core.lanes import topic_name_problem  # noqa: E402

NO_LAB = cast(Any, None)
CONTRACTS = open_contracts()
SOURCE = Source("orders", 50)
RIGHT = [CONTRACTS.encode(PAYMENT, 1, answer(order)) for order in SOURCE.orders()]
GARBLED = CONTRACTS.encode(PAYMENT, 1, answer(next(SOURCE.orders())) | {"amount_cents": 1})

BUILDS = {
    "sound": (RIGHT, None),
    "loses one": (RIGHT[1:], "1 lost"),
    "doubles one": ([*RIGHT, RIGHT[7]], "1 doubled"),
    "doubles one and loses one": ([*RIGHT[1:], RIGHT[7]], "1 lost, 1 doubled"),
    "garbles one": ([*RIGHT[1:], GARBLED], "1 lost, 1 that nobody ordered"),
    "invents one": ([*RIGHT, GARBLED], "1 that nobody ordered"),
    "does nothing": ([], "50 lost"),
}
"""What a contender published, and what is found out."""

CONTENDER = """
import json, sys
values = json.loads(sys.argv[2])
open(sys.argv[1], "w").write(json.dumps(values))
print(json.dumps({"records": 50, "results": 50, "began_at": 1.0, "ended_at": 2.0, "cpu_s": 0.5, "rss_mb": 9.0}))
"""
"""A contender as a process of its own, which publishes into a file."""


class OneBuild(Scenario):
    """Runs one contender as a process and checks what it published, as the scenarios on servers do."""

    name = "one-build"
    title = "One build"
    about = "Sound or broken."
    metrics = (Metric("rate", "messages/s"),)
    ratios = ("rate",)
    contenders = (Contender("build", "a build"),)

    def __init__(self, published: list[bytes], log: Path) -> None:
        super().__init__(quick=True)
        self._published = json.dumps([value.hex() for value in published])
        self._log = log

    def measure(self, lab: Any, trial: Trial) -> Figures:
        report = work([sys.executable, "-c", CONTENDER, str(self._log), self._published], trial.name)
        written = [bytes.fromhex(value) for value in json.loads(self._log.read_text())]
        check_results(trial.name, written, SOURCE.expected(CONTRACTS))
        return report.figures()


@pytest.mark.parametrize("build", BUILDS)
def test_a_contender_whose_results_are_wrong_fails_the_benchmark(build: str, tmp_path: Path) -> None:
    published, fault = BUILDS[build]
    scenario = OneBuild(published, tmp_path / "published.json")
    if fault is None:
        [row] = run_one(scenario, NO_LAB, lambda _: None).rows
        assert row.median("rate") == 50
        return
    with pytest.raises(WrongWorkError, match=f"one-build-build-0-0: of 50 results {fault}$"):
        run_one(scenario, NO_LAB, lambda _: None)


def test_a_contender_that_was_stopped_early_must_have_published_what_it_says() -> None:
    expected = SOURCE.expected(CONTRACTS)
    assert check_results("slow", RIGHT[:10], expected, claimed=10) == 10
    for written, claimed in ((RIGHT[:9], 10), ([*RIGHT[:9], RIGHT[0]], 10), ([*RIGHT[:9], GARBLED], 10)):
        with pytest.raises(WrongWorkError):
            check_results("slow", written, expected, claimed=claimed)


@pytest.mark.parametrize("found", [["a"], ["a", "b", "b"], ["a", "c"]])
def test_effects_are_counted_by_key(found: list[str]) -> None:
    assert check_keys("service", ["b", "a"], ["a", "b"]) == 2
    with pytest.raises(WrongWorkError, match="service: of 2 results"):
        check_keys("service", found, ["a", "b"])


def test_a_contender_that_fails_fails_the_benchmark_with_its_last_words() -> None:
    with pytest.raises(WrongWorkError, match=r"(?s)lame failed with status 3:.*out of breath"):
        work([sys.executable, "-c", "import sys; print('out of breath', file=sys.stderr); sys.exit(3)"], "lame")


class Recorded(Scenario):
    """Remembers whose turn it was."""

    name = "recorded"
    title = "Recorded"
    about = "In turn."
    metrics = (Metric("rate", "messages/s"),)
    ratios = ("rate",)
    base = "a"
    varied = "points"
    contenders = (
        Contender("a", "A"),
        Contender("b", "B"),
        Contender("c", "C", needs="program:no-such-program"),
        Contender("d", "D", needs="no_such_module"),
    )

    def __init__(self) -> None:
        super().__init__(quick=True)
        self.turns: list[str] = []

    @property
    def rounds(self) -> int:
        return 2

    def points(self) -> Sequence[Point]:
        return (Point(1, "one"), Point(10, "ten"))

    def measure(self, lab: Any, trial: Trial) -> Figures:
        self.turns.append(f"{trial.round}{trial.contender.name}{trial.point.value:g}")
        return {"rate": trial.point.value * (1 if trial.contender.name == "a" else 3) + trial.round}


def test_rounds_are_interleaved_and_who_cannot_take_part_is_named() -> None:
    scenario = Recorded()
    section = run_one(scenario, NO_LAB, lambda _: None)
    assert scenario.turns == ["0a1", "0b1", "0a10", "0b10", "1a1", "1b1", "1a10", "1b10"]
    assert section.left_out == {
        "C": "there is no no-such-program on this machine",
        "D": "no_such_module is not installed (extra: bench)",
    }
    row = section.row("b", 10)
    assert row is not None
    assert (row.values("rate"), row.median("rate")) == ([30, 31], 30.5)
    assert section.ratio(row, "rate") == pytest.approx(30.5 / 10.5)
    assert [section.ratio(found, "rate") for found in section.rows if found.contender == "a"] == [None, None]


def test_the_same_source_is_filled_in_every_run_and_holds_what_it_says() -> None:
    records = list(Source("orders", 2_000).records(CONTRACTS))
    assert records == list(Source("orders", 2_000).records(CONTRACTS))
    values = [record.value for record in records]
    assert len(set(values)) == 2_000
    assert 5 <= len(values) - 2_000 <= 40
    hot = [record.key for record in Source("orders", 1_000, hot_share=0.9, duplicates=0).records(CONTRACTS)]
    assert hot.count(b"customer-of-most") == 900


LOOKS = [(1.0, 0), (2.0, 400), (3.0, 500), (4.0, 500), (5.0, 700), (6.0, 900)]


def looks() -> list[Look]:
    return [Look(at, committed, cpu_s=at / 2, rss_mb=10 * at) for at, committed in LOOKS]


def test_a_crew_is_as_fast_as_it_is_once_all_take_part() -> None:
    figures = together(2.5, looks())
    # all work from 2.5 on; what is committed by 5.0 was done some time after 4.0
    assert figures["rate"] == pytest.approx((900 - 700) / (6.0 - 4.0))
    assert figures["cpu_us"] == pytest.approx((3.0 - 2.5) / (900 - 700) * 1e6)
    assert figures["rss_mb"] == 60.0


@pytest.mark.parametrize("began_at", [None, 5.5], ids=["one had no work", "one came too late"])
def test_a_crew_of_which_one_did_everything_is_no_crew(began_at: float | None) -> None:
    with pytest.raises(WrongWorkError, match="the source is too short"):
        together(began_at, looks())


def test_a_crew_is_at_work_when_each_has_partitions() -> None:
    lines = [
        {"event": "partitions_assigned", "process": number, "partitions": names, "timestamp": f"1970-01-01T00:00:{at}Z"}
        for number, names, at in [
            (1, ["a/0", "a/1"], "10.0"),
            (1, ["a/0"], "11.5"),
            (2, [], "10.5"),
            (2, ["a/1"], "12.0"),
        ]
    ]
    assert all_at_work(lines, 2) == 12.0
    assert all_at_work(lines[:3], 2) is None
    assert all_at_work([{"event": "worker_started", "process": 1}], 1) is None


def test_a_crews_file_says_what_the_job_says() -> None:
    job = Job("127.0.0.1:1", "redis://127.0.0.1:2/0", "orders", "crew-1", 7)
    read, wanted = config_from(tomllib.loads(as_toml(job))), job.config(**SETTINGS)
    assert read.routes == wanted.routes
    assert (read.kafka, read.redis, read.health) == (wanted.kafka, wanted.redis, wanted.health)


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(1, 1_001)]
    assert [percentile(values, share) for share in (0.5, 0.99, 0.999, 1.0)] == [500, 990, 999, 1_000]
    assert percentile([7.0], 0.5) == 7.0


def test_the_stopwatch_starts_with_the_first_record_and_ends_with_the_last_commit() -> None:
    watch = Stopwatch()
    assert not watch.over(0)
    watch.begin()
    began_at = watch.began_at
    watch.did(2, 1)
    watch.begin()
    watch.did(3, 3)
    found = Report(**json.loads(json.dumps(watch.report())))
    assert (found.records, found.results, found.began_at) == (5, 4, began_at)
    assert found.ended_at >= began_at
    assert found.rss_mb > 1
    assert watch.over(0)
    assert not watch.over(3_600)


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios_are_whole(name: str) -> None:
    for quick in (True, False):
        scenario = SCENARIOS[name](quick=quick)
        names = [contender.name for contender in scenario.contenders]
        assert len(set(names)) == len(names)
        assert set(scenario.ratios) <= {metric.key for metric in scenario.metrics}
        assert {scenario.base, *(c.against for c in scenario.contenders)} - {None, ""} <= set(names)
        values = [point.value for point in scenario.points()]
        assert len(set(values)) == len(values)
        assert scenario.rounds >= 1
        assert bool(scenario.varied) == (len(values) > 1 or bool(scenario.points()[0].title))


@pytest.mark.parametrize("quick", [True, False])
def test_every_trial_names_topics_that_kafka_takes(quick: bool) -> None:
    for scenario in (kind(quick=quick) for kind in SCENARIOS.values()):
        for point in scenario.points():
            for contender in scenario.contenders:
                name = Trial(scenario.name, contender, point, 0).name
                assert topic_name_problem(f"{name}.results") is None, name
