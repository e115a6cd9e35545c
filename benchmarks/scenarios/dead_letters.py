"""What an operator waits for after a bad night: looking through the dead letters, planning, sending them back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.commands import PROGRAM, Ended, measured
from benchmarks.crew import as_toml
from benchmarks.job import Job
from benchmarks.lab import Lab
from benchmarks.letters import FILTERED, Letters, digest, fill
from benchmarks.processes import peer_command
from benchmarks.scenario import Contender, Figures, Metric, Point, Scenario, Trial, WrongWorkError
from benchmarks.verifying import check_numbers
from broker_bridge.core.fingerprint import fingerprint

NO_LIMIT = ("--rate", "unlimited", "--canary", "none")
ITEM = "i"
"""How the line of an item begins, before partition and offset of its letter."""


class DeadLetters(Scenario):
    """Operator's commands beside the bare client doing the least that they must do."""

    name = "dead-letters"
    title = "Dead letters: browse, plan, replay"
    about = (
        "So many dead letters of 1 KB wait, of ten kinds, each with its claim in Redis. Measured are whole commands, "
        "from their start to their end. Beside them by hand: a consumer that reads the topic and looks at nothing, and "
        "one that also writes every record into a lane, with no plan, no claims and nothing to go on from when it is "
        "killed. Counts, plans and lanes are checked: each letter once, its key and value untouched."
    )
    contenders = (
        Contender("read", "by hand: read, aiokafka"),
        Contender("groups", "**broker_bridge** `dlq groups`"),
        Contender("plan", "**broker_bridge** `replay plan --code …`, a tenth of them"),
        Contender("plan_all", "**broker_bridge** `replay plan`, all of them"),
        Contender("forward", "by hand: read and write, aiokafka", against="forward"),
        Contender("run", "**broker_bridge** `replay run`, no rate limit", against="forward"),
    )
    metrics = (Metric("rate", "letters/s"), Metric("cpu_us", "CPU µs each"), Metric("rss_mb", "RSS MB"))
    ratios = ("rate", "cpu_us")
    base = "read"
    varied = "dead letters"

    def __init__(self, *, quick: bool) -> None:
        super().__init__(quick=quick)
        self._letters: dict[float, Letters] = {}

    @property
    def rounds(self) -> int:
        """A million takes its time."""
        return 2

    def points(self) -> Sequence[Point]:
        """Up to a million."""
        sizes = (10_000, 50_000) if self.quick else (10_000, 100_000, 1_000_000)
        return [Point(size, f"{size:,}".replace(",", " ")) for size in sizes]

    def prepare(self, lab: Lab) -> None:
        """Fill a topic for each size; claims of all stay in Redis."""
        lab.redis.flushall()
        for point in self.points():
            lab.say(f"  writing {point.title} dead letters")
            self._letters[point.value] = fill(_job(lab, point))

    def measure(self, lab: Lab, trial: Trial) -> Figures:
        """One command, or one loop by hand."""
        letters, job = self._letters[trial.point.value], _job(lab, trial.point)
        config = lab.folder / f"{job.name}.toml"
        config.write_text(as_toml(job), encoding="utf-8")
        plan = lab.folder / f"{trial.name}.plan"
        match trial.contender.name:
            case "read" | "forward" as name:
                ended = _by_hand(lab, trial, job, letters, name)
            case "groups":
                ended = _command(lab, trial, config, "dlq", "groups")
                check_groups(trial.name, ended.out, letters)
            case "run":
                _plan(lab, trial, config, plan)
                ended = _command(lab, trial, config, "replay", "run", plan, "--execute", "--yes", *NO_LIMIT)
                _check_and_empty(trial.name, lab, letters.route.redrive_topic, letters)
            case name:
                filters = ["--code", FILTERED] if name == "plan" else []
                ended = _plan(lab, trial, config, plan, *filters)
                check_plan(trial.name, plan, letters, FILTERED if filters else "")
        plan.unlink(missing_ok=True)
        return ended.figures(letters.count)


def check_groups(name: str, out: str, letters: Letters) -> None:
    """Each kind with all its letters, all of them waiting. Raises ``WrongWorkError``."""
    found = {one["fingerprint"]: (one["count"], one["waiting"]) for one in json.loads(out)["groups"]}
    expected = {fingerprint(*kind): (number, number) for kind, number in letters.by_kind().items()}
    if found != expected:
        raise WrongWorkError(f"{name}: groups are {found}, not {expected}")


def check_plan(name: str, plan: Path, letters: Letters, code: str) -> None:
    """Each letter with that code (or any) once, and no other. Raises ``WrongWorkError``."""
    with plan.open("rb") as lines:
        items = (one for one in map(json.loads, lines) if isinstance(one, list) and one[0] == ITEM)
        check_numbers(
            name,
            (partition << 40 | offset for _, partition, offset, *_ in items),
            (partition << 40 | offset for partition, offset in letters.places(code)),
        )


def _job(lab: Lab, point: Point) -> Job:
    name = f"letters-{point.value:.0f}"
    return Job(lab.bootstrap, lab.stack.redis_url, f"bench.{name}", name, int(point.value))


def _by_hand(lab: Lab, trial: Trial, job: Job, letters: Letters, name: str) -> Ended:
    lane = f"{job.name}.by-hand"
    if name == "forward":
        lab.ensure(lane)
    job = Job(**{**job.__dict__, "options": {"topic": letters.route.dead_letter_topic, "lane": lane}})
    ended = measured(peer_command(f"letters_{name}", job), trial.name, lab.folder)
    done = json.loads(ended.out.splitlines()[-1])["records"]
    if done != letters.count:
        raise WrongWorkError(f"{trial.name}: {done:,} letters of {letters.count:,}")
    if name == "forward":
        _check_and_empty(trial.name, lab, lane, letters)
    return ended


def _check_and_empty(name: str, lab: Lab, lane: str, letters: Letters) -> None:
    check_numbers(name, lab.each(lane, digest), letters.digests)
    lab.empty(lane)


def _plan(lab: Lab, trial: Trial, config: Path, plan: Path, *filters: str) -> Ended:
    return _command(lab, trial, config, "replay", "plan", *filters, "--why", "measured", "--out", plan)


def _command(lab: Lab, trial: Trial, config: Path, *words: str | Path) -> Ended:
    command = [PROGRAM, *map(str, words), "--config", str(config), "--json"]
    return measured(command, f"{trial.name}-{words[1]}", lab.folder)
