"""`broker-bridge schemas serve` as it is run: where it listens, what it registers, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from broker_bridge.contracts import SchemaDirectory
from broker_bridge.stack.ports import free_port

DEADLINE_S = 60
SUBJECT = "orders.placed-value"


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["broker-bridge", "schemas", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "ids.jsonl").touch()
    return tmp_path / "schemas"


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The command on a free port, and what it said of itself. It is killed at the latest here."""
    command = ["broker-bridge", "schemas", "serve", "--listen", "127.0.0.1:0", "--schemas", str(folder), "--json"]
    log = folder.with_name(f"log-{free_port()}")
    with (
        log.open("w") as stderr,
        subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text()
            yield process, json.loads(line)
        finally:
            process.kill()


def register(url: str, subject: str, *fields: str) -> int:
    made = [{"name": field, "type": "int", "default": 0} for field in fields]
    schema = json.dumps({"type": "record", "name": "One", "fields": made})
    request = urllib.request.Request(
        f"{url}/subjects/{subject}/versions",
        data=json.dumps({"schema": schema}).encode(),
        headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
    )
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
        found: int = json.loads(answer.read())["id"]
        return found


def test_what_it_says_registers_and_how_it_ends(folder: Path) -> None:
    with serving(folder) as (process, said):
        assert said == {"url": said["url"], "schemas": str(folder), "versions": 0, "read_only": False}
        assert said["url"].startswith("http://127.0.0.1:")
        assert register(said["url"], SUBJECT, "a") == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    assert json.loads(cli("list", "--dir", str(folder), "--json").stdout)["schemas"][0]["subject"] == SUBJECT
    [log] = folder.parent.glob("log-*")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["event"], line["schema_id"]) for line in lines] == [("schema_change_answered", 1)]


def test_ctrl_c_ends_it_too(folder: Path) -> None:
    with serving(folder, "--read-only") as (process, said):
        assert said["read_only"]
        with pytest.raises(urllib.error.HTTPError) as caught:
            register(said["url"], SUBJECT, "a")
        assert json.loads(caught.value.read())["error_code"] == 42205
        caught.value.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0


def test_several_processes_and_the_command_line_share_one_folder(folder: Path) -> None:
    """Two servers and the register command at once: ids are given once, and the folder stays whole."""
    for number in range(4):
        (folder / f"C{number}").mkdir()
        (folder / f"C{number}" / "v1.avsc").write_text(f'{{"type": "record", "name": "C{number}", "fields": []}}')
    with serving(folder) as (_, one), serving(folder) as (_, other), ThreadPoolExecutor(6) as pool:
        told = [pool.submit(register, url["url"], f"s{n}-value", "a") for n in range(10) for url in (one, other)]
        run = [pool.submit(cli, "register", f"C{n}", "--dir", str(folder)) for n in range(4)]
        while not all(future.done() for future in run):
            SchemaDirectory(folder, drafts=True)
        while not all(future.done() for future in told):
            SchemaDirectory(folder)  # as a worker loads it that starts just now
        ids = [future.result() for future in told]
        assert [future.result().returncode for future in run] == [0] * 4
    assert ids[::2] == ids[1::2], "both servers answer the same id"
    directory = SchemaDirectory(folder)
    assert sorted(one.schema_id for one in directory.contracts()) == list(range(1, 15))
    assert {directory.get(f"s{n}-value").schema_id for n in range(10)} == set(ids)


def test_killed_in_the_middle_it_leaves_a_folder_that_loads(folder: Path) -> None:
    """Whatever was answered is there; what was not is there whole, or as a file without an id, or not at all."""
    for round_ in range(3):
        with serving(folder) as (process, said), ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(register, said["url"], f"r{round_}-{n}-value", "a") for n in range(40)]
            futures[round_].result(DEADLINE_S)
            process.kill()
            answered = [future.result(DEADLINE_S) for future in futures if future.exception(DEADLINE_S) is None]
        directory = SchemaDirectory(folder, drafts=True)
        assert all(directory.by_id(schema_id) for schema_id in answered)
        assert len(directory.drafts) <= 1
        with serving(folder) as (_, said):
            again = register(said["url"], f"r{round_}-39-value", "a")
            assert SchemaDirectory(folder, drafts=True).by_id(again).subject == f"r{round_}-39-value"


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--listen", "0.0.0.0:0"), 5, "--allow-remote"),
        (("--listen", "[::]:0"), 5, "--allow-remote"),
        (("--listen", "8081"), 2, "host:port"),
        (("--listen", "127.0.0.1:99999"), 2, "no port"),
        (("--schemas", "nowhere"), 3, "no such folder"),
        (("--listen", "192.0.2.1:0", "--allow-remote"), 2, "cannot listen"),
    ],
)
def test_where_it_does_not_start(folder: Path, options: tuple[str, ...], status: int, said: str) -> None:
    ended = cli("serve", "--dir", str(folder), *options)
    assert ended.returncode == status, ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_a_damaged_folder_and_a_taken_port_are_told_at_start(folder: Path) -> None:
    with serving(folder) as (_, said):
        taken = cli("serve", "--dir", str(folder), "--listen", said["url"].removeprefix("http://"))
        assert (taken.returncode, "another program" in taken.stderr) == (2, True)
    (folder / "ids.jsonl").write_text("{\n")
    damaged = cli("serve", "--dir", str(folder))
    assert (damaged.returncode, "ids.jsonl:1" in damaged.stderr) == (2, True)


def test_the_folder_may_come_from_the_environment(folder: Path) -> None:
    environment = {**os.environ, "BROKER_BRIDGE_SCHEMAS": str(folder)}
    command = ["broker-bridge", "schemas", "serve", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert f"serves 0 schemas of {folder}" in process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_S) == 0
        finally:
            process.kill()
