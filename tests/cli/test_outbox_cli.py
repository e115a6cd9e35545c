"""``broker-bridge outbox`` as installed: what it refuses, in which words, and that it never tells a password."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import urllib.request
from pathlib import Path

import pytest
from outbox_world import ORDER, new_outbox, order
from worker_process import COMMAND, eventually

from broker_bridge.stack.ports import free_port

SECRET = "s3cr%25t-Pa55"


def outbox(folder: Path, *arguments: str, expect: int) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(COMMAND), "outbox", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, env=clean()
    )
    assert done.returncode == expect, f"exit {done.returncode}: {done.stdout} {done.stderr}"
    assert "Traceback" not in done.stderr
    for secret in (SECRET, "s3cr%t-Pa55"):
        assert secret not in done.stdout + done.stderr
    return done


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("BROKER_BRIDGE_")}


@pytest.mark.parametrize(
    ("url", "expect", "said"),
    [
        ("mysql://u@h/d", 2, "of no kind that is known"),
        (f"u:{SECRET}@h", 2, "of no kind that is known"),
        (f"postgresql://u:{SECRET}@127.0.0.1:1/d", 4, "127.0.0.1"),
        (f"postgresql://u:{SECRET}@127.0.0.1:xx/d", 2, "cannot be read"),
        (f"postgresql://u:{SECRET}%zz@127.0.0.1:1/d", 2, "does not understand"),
        (f"postgresql://u@127.0.0.1:1/d?password={SECRET}&nonsense=1", 2, "does not understand"),
        ("sqlite:///nowhere.db", 4, "cannot open the file"),
        ("sqlite:///bridge.toml", 4, "not a database"),
        ("sqlite:///empty.db", 4, "no such table"),
    ],
)
def test_a_wrong_database_is_a_sentence_without_the_password(tmp_path: Path, url: str, expect: int, said: str) -> None:
    (tmp_path / "bridge.toml").write_text("[bridge]\nservice = 'relay'\n" + "# long enough to be no empty file\n" * 50)
    sqlite3.connect(tmp_path / "empty.db").executescript("CREATE TABLE t (a)")
    for command in (["status"], ["relay", "--once"]):
        done = outbox(tmp_path, *command, "--database", url, expect=expect)
        assert said in done.stderr
        assert re.search(r"error\[(config_invalid|database_unavailable)\]", done.stderr)


def test_kafka_away_is_told_and_the_events_stay(tmp_path: Path) -> None:
    (tmp_path / "bridge.toml").write_text('[kafka]\nbootstrap = "127.0.0.1:1"\n')
    outbox(tmp_path, "create-table", "--database", "sqlite:///shop.db", expect=0)
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        new_outbox().blocking.add(connection, "orders.placed", order(1), key="c1", contract=ORDER)
    done = outbox(tmp_path, "relay", "--once", "--database", "sqlite:///shop.db", expect=4)
    assert "error[kafka_unavailable]" in done.stderr
    status = json.loads(outbox(tmp_path, "status", "--json", "--database", "sqlite:///shop.db", expect=0).stdout)
    assert (status["waiting"], status["sendable"], status["set_aside"]) == (1, 1, 0)


def test_the_tables_are_created_once_and_may_be_again(tmp_path: Path, postgres_url: str) -> None:
    for url in ("sqlite:///shop.db", postgres_url):
        for _ in range(2):
            outbox(tmp_path, "create-table", "--database", url, expect=0)
        assert "0 waiting" in outbox(tmp_path, "status", "--database", url, expect=0).stdout
    printed = outbox(tmp_path, "create-table", "--print", "--database", "sqlite:///other.db", expect=0).stdout
    assert not (tmp_path / "other.db").exists()
    sqlite3.connect(tmp_path / "other.db").executescript(printed)
    assert "0 waiting" in outbox(tmp_path, "status", "--database", "sqlite:///other.db", expect=0).stdout


def test_tables_without_their_bucket_rows_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "bridge.toml").write_text("")
    outbox(tmp_path, "create-table", "--database", "sqlite:///shop.db", expect=0)
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("DELETE FROM bridge_outbox_bucket WHERE bucket > 60")
    done = outbox(tmp_path, "relay", "--database", "sqlite:///shop.db", expect=4)
    assert "has 61 rows instead of 64" in done.stderr


def test_nonsense_is_refused(tmp_path: Path) -> None:
    assert "--database" in outbox(tmp_path, "status", expect=2).stderr
    done = outbox(tmp_path, "status", "--database", "sqlite:///x.db", "--table", "x; drop", expect=2)
    assert "no table name" in done.stderr
    (tmp_path / "bridge.toml").write_text("")
    done = outbox(tmp_path, "relay", "--database", "sqlite:///x.db", "--metrics", "nowhere", expect=2)
    assert "cannot serve metrics" in done.stderr


def test_metrics_are_served_and_sigterm_ends_well(tmp_path: Path, kafka_bootstrap: str) -> None:
    (tmp_path / "bridge.toml").write_text(f'[kafka]\nbootstrap = "{kafka_bootstrap}"\n')
    outbox(tmp_path, "create-table", "--database", "sqlite:///shop.db", expect=0)
    at = f"127.0.0.1:{free_port()}"
    command = [str(COMMAND), "outbox", "relay", "--database", "sqlite:///shop.db", "--metrics", at, "--json"]
    with (tmp_path / "out").open("wb") as out, (tmp_path / "log").open("wb") as log:
        relay = subprocess.Popen(command, cwd=tmp_path, stdout=out, stderr=log, env=clean())
    try:
        eventually(lambda: "outbox_started" in (tmp_path / "log").read_text())
        with urllib.request.urlopen(f"http://{at}/metrics", timeout=5) as response:
            assert b"broker_bridge_outbox_sent_total 0.0" in response.read()
        relay.send_signal(signal.SIGTERM)
        assert relay.wait(30) == 0
    finally:
        if relay.poll() is None:
            relay.kill()
            relay.wait()
    assert json.loads((tmp_path / "out").read_text()) == {"sent": 0, "set_aside": 0, "waiting": 0}
