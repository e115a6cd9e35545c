"""``worker run --processes`` without servers: how many, which commands, what is refused, whole lines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from structlog.testing import capture_logs

from broker_bridge.cli.worker_processes import (
    AUTO,
    MOST,
    CrewPlan,
    ProcessCount,
    check_member,
    command_of,
    crew_size,
    environment_of,
    longest_end_s,
)
from broker_bridge.config import BridgeConfig, config_from
from broker_bridge.errors import ConfigError
from broker_bridge.worker.cpus import usable_cpus

COMMAND = Path(sys.executable).parent / "broker-bridge"
PRINTS = """
from broker_bridge.cli.worker_processes import write_whole_lines
write_whole_lines()
for number in range(3):
    print("line", number)
"""


def config(member: str | None = None, **route: Any) -> BridgeConfig:
    section = {"name": "payments", "topic": "orders", "target": {"kind": "topic", "topic": "audit"}, **route}
    return config_from({"kafka": {"member": member} if member else {}, "route": [section]})


def plan(member: str | None = None, *, named: tuple[str, ...] = ()) -> CrewPlan:
    made = config(member)
    return CrewPlan(Path("my bridge.toml"), made, made.routes, named, 2)


@pytest.mark.parametrize(
    ("written", "count"), [("auto", AUTO), ("AUTO", AUTO), ("0", AUTO), ("1", 1), (str(MOST), MOST)]
)
def test_how_a_number_of_processes_is_written(written: str, count: int) -> None:
    assert ProcessCount().convert(written, None, None) == count


@pytest.mark.parametrize("written", ["", "-1", "two", "2.5", str(MOST + 1), "²"])
def test_nonsense_is_refused_with_what_may_be_given(written: str) -> None:
    with pytest.raises(click.BadParameter, match="is no number of processes: give 1 to 256, or auto"):
        ProcessCount().convert(written, None, None)


def test_the_command_refuses_nonsense_before_anything_is_read(tmp_path: Path) -> None:
    done = subprocess.run(
        [COMMAND, "worker", "run", "--processes", "many"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error[usage]: ")
    assert "'many' is no number of processes" in done.stderr


def test_auto_is_the_processors_but_no_more_than_can_be_shared_out() -> None:
    assert crew_size(AUTO, {"payments": 1, "refunds": 1}) == 1
    assert crew_size(AUTO, {"payments": 1, "refunds": 10_000}) == usable_cpus()


def test_more_processes_than_partitions_are_warned_of_by_route() -> None:
    with capture_logs() as logs:
        assert crew_size(6, {"payments": 4, "refunds": 12, "audit": 1}) == 6
    assert [line["reason"] for line in logs] == [
        "route payments: its topic has 4 partitions, so 2 of 6 processes get nothing of it to do",
        "route audit: its topic has 1 partitions, so 5 of 6 processes get nothing of it to do",
    ]
    with capture_logs() as logs:
        assert crew_size(4, {"payments": 4}) == 4
    assert logs == []


def test_each_process_is_told_its_number_its_routes_and_its_socket() -> None:
    command = command_of(plan(named=("payments", "refunds")), 2, [7])
    assert command[:4] == [sys.executable, "-P", "-m", "broker_bridge.cli.main"]
    assert command[4:] == [
        "worker", "process", "--number", "2", "--config", "my bridge.toml", "--route", "payments", "--route", "refunds",
        "--health-fd", "7",
    ]  # fmt: skip
    assert command_of(plan(), 1, [])[-4:] == ["--number", "1", "--config", "my bridge.toml"]


def test_each_static_member_has_a_name_of_its_own() -> None:
    names = [environment_of(plan("till"), number)["BROKER_BRIDGE_KAFKA__MEMBER"] for number in (1, 2)]
    assert names == ["till-1", "till-2"]
    assert environment_of(plan(), 1) == dict(os.environ)


def test_a_members_name_must_have_room_for_the_number() -> None:
    check_member(config("m" * 96))
    check_member(config())
    with pytest.raises(ConfigError) as caught:
        check_member(config("m" * 97))
    assert str(caught.value).startswith("[kafka] member: has 97 characters; with several processes it may have 96")


def test_the_slowest_route_says_how_long_an_end_may_take() -> None:
    slow = config(shutdown={"drain": "40s", "grace": "500ms"})
    assert longest_end_s([*config().routes, *slow.routes]) == 40.5


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_line_leaves_in_one_call_however_python_buffers(unbuffered: str) -> None:
    """A pipe in packet mode gives back what was written call by call."""
    reading, writing = os.pipe2(os.O_DIRECT)
    with os.fdopen(reading, "rb", buffering=0) as packets:
        with os.fdopen(writing, "wb") as stdout:
            environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
            subprocess.run([sys.executable, "-c", PRINTS], stdout=stdout, env=environment, check=True)
        assert [packets.read(4_096) for _ in range(4)] == [b"line 0\n", b"line 1\n", b"line 2\n", b""]
