"""`broker-bridge stack` as it is installed: help, results on stdout, errors with remedy, exit statuses."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker_bridge.errors import StackError
from broker_bridge.stack.kafka.handshake import describe_cluster
from broker_bridge.stack.ports import free_port
from broker_bridge.stack.redis_server import call
from broker_bridge.stack.registry.server import call as ask
from broker_bridge.stack.state import read_state

DEADLINE_S = 180.0


def stack_cli(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["broker-bridge", "stack", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={**os.environ, **environment},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder whose servers are ended whatever happens."""
    yield tmp_path / "stack"
    try:
        state = read_state(tmp_path / "stack")
    except StackError:  # a test damaged the file on purpose, and started nothing
        return
    for part in [*state.kafka, state.redis, state.registry] if state else []:
        if part is not None and part.process is not None:
            part.process.identity().send(signal.SIGKILL)


@pytest.mark.parametrize("command", [(), ("up",), ("down",), ("status",)])
def test_help_has_an_example(command: tuple[str, ...]) -> None:
    shown = stack_cli(*command, "--help")
    assert shown.returncode == 0
    assert "Example" in shown.stdout
    assert f"broker-bridge stack {' '.join(command)}".strip() in shown.stdout
    if command:
        assert "--json" in shown.stdout
        assert "Exit status: 0" in shown.stdout


def test_up_status_down(folder: Path) -> None:
    kafka_port, redis_port, registry_port = free_port(), free_port(), free_port()
    where = ["--data-dir", str(folder)]
    ports = ["--kafka-port", str(kafka_port), "--redis-port", str(redis_port)]
    ports += ["--registry", "--registry-port", str(registry_port)]

    up = stack_cli("up", *where, *ports, "--json")
    assert up.returncode == 0, up.stderr
    assert up.stderr == ""
    result = json.loads(up.stdout)
    assert result["state"] == "running"
    assert result["bootstrap"] == f"127.0.0.1:{kafka_port}"
    assert result["redis_url"] == f"redis://127.0.0.1:{redis_port}/0"
    assert result["registry_url"] == f"http://127.0.0.1:{registry_port}/apis/ccompat/v7"
    assert (result["versions"]["kafka"], result["versions"]["registry"]) == ("4.4.0", "3.0.9")
    assert [(one["alive"], one["answers"]) for one in result["servers"]] == [(True, True)] * 3
    assert describe_cluster(kafka_port, timeout_s=5) is not None
    assert call(redis_port, "PING").startswith(b"+PONG")
    assert ask(registry_port, "GET", "/apis/ccompat/v7/config") == {"compatibilityLevel": "BACKWARD"}

    again = stack_cli("up", *where)
    assert again.returncode == 4
    assert again.stdout == ""
    assert f"pid {result['servers'][0]['pid']}" in again.stderr
    assert "broker-bridge stack down" in again.stderr

    status = stack_cli("status", *where)
    assert status.returncode == 0
    assert f"127.0.0.1:{kafka_port}" in status.stdout
    assert f"BROKER_BRIDGE_REGISTRY__URL={result['registry_url']}" in status.stdout
    assert json.loads(stack_cli("status", *where, "--json").stdout) == result

    os.kill(result["servers"][1]["pid"], signal.SIGKILL)
    degraded = stack_cli("status", *where)
    assert degraded.returncode == 4
    assert f"is not running, log: {folder / 'redis.log'}" in degraded.stdout

    down = stack_cli("down", *where, "--wipe", "--json")
    assert down.returncode == 0, down.stderr
    assert json.loads(down.stdout) == {"state": "stopped", "ran": True, "wiped": True, "data_dir": str(folder)}
    assert describe_cluster(kafka_port, timeout_s=1) is None
    assert ask(registry_port, "GET", "/apis/ccompat/v7/config") is None
    assert not folder.exists()

    second_down = stack_cli("down", *where)
    assert second_down.returncode == 0
    assert "Nothing ran" in second_down.stdout


def test_progress_goes_to_stderr(folder: Path) -> None:
    up = stack_cli("up", "--data-dir", str(folder))
    assert up.returncode == 0, up.stderr
    assert "starting Kafka on" in up.stderr
    assert "starting" not in up.stdout
    assert "export BROKER_BRIDGE_KAFKA__BOOTSTRAP=127.0.0.1:" in up.stdout
    assert stack_cli("down", "--data-dir", str(folder)).stdout == "Stopped.\n"


def test_status_where_nothing_was_started(folder: Path) -> None:
    status = stack_cli("status", "--data-dir", str(folder))
    assert status.returncode == 3
    assert "broker-bridge stack up" in status.stdout
    assert json.loads(stack_cli("status", "--data-dir", str(folder), "--json").stdout)["state"] == "stopped"
    assert not folder.exists(), "asking leaves nothing behind"


@pytest.mark.parametrize(
    "arguments",
    [
        ("up", "--brokers", "2"),
        ("up", "--kafka-port", "99999"),
        ("up", "--redis-port", "many"),
        ("up", "--engine", "podman"),
        ("up", "--kafka-heap-mb", "1"),
        ("up", "--kafka-port", "20000", "--redis-port", "20000"),
        ("up", "--registry-port", "20000"),
        ("up", "--data-dir", "a,b"),
        ("down", "--hard"),
        ("status", "extra"),
        ("restart",),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line(arguments: tuple[str, ...]) -> None:
    answer = stack_cli(*arguments)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith("error[usage]")


def test_a_port_that_is_taken(folder: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        answer = stack_cli("up", "--data-dir", str(folder), "--redis-port", str(port), "--json")
    assert answer.returncode == 2
    problem = json.loads(answer.stderr)
    assert problem["code"] == "port_taken"
    assert problem["instance"] == f"127.0.0.1:{port}"
    assert problem["remedy"]


def test_missing_programs(folder: Path, tmp_path: Path) -> None:
    command = Path(stack_cli_path())
    environment = {**os.environ, "PATH": str(tmp_path), "JAVA_HOME": "", "BROKER_BRIDGE_CACHE": str(tmp_path / "cache")}
    answer = subprocess.run(
        [command, "stack", "up", "--data-dir", str(folder)], capture_output=True, text=True, env=environment, timeout=60
    )
    assert answer.returncode == 3
    assert "error[tool_missing]: not found on PATH: java (runs Kafka)" in answer.stderr
    assert "apt-get install -y openjdk-17-jre-headless redis-server maven" in answer.stderr


def stack_cli_path() -> str:
    found = subprocess.run(["sh", "-c", "command -v broker-bridge"], capture_output=True, text=True)
    return found.stdout.strip()


@pytest.mark.parametrize("command", ["up", "down", "status"])
def test_a_damaged_state_file(command: str, folder: Path) -> None:
    folder.mkdir()
    (folder / "stack.json").write_text('{"version": 1, "engine"')
    answer = stack_cli(command, "--data-dir", str(folder))
    assert answer.returncode == 4
    assert f"{folder / 'stack.json'}: the state file is damaged" in answer.stderr
    assert "remove the file" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_data_dir_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    answer = stack_cli("up", "--data-dir", str(tmp_path / "file"))
    assert answer.returncode == 4
    assert "the data folder cannot be written" in answer.stderr
    assert "--data-dir" in answer.stderr


def test_docker_without_an_engine(folder: Path) -> None:
    answer = stack_cli("up", "--data-dir", str(folder), "--engine", "docker", DOCKER_HOST="unix:///nowhere/docker.sock")
    assert answer.returncode == 3
    assert "no Docker engine answers" in answer.stderr
    assert "--engine native" in answer.stderr
