"""``broker-bridge chaos run`` as installed: what it says without running, and one run on a user's own route."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).parent / "broker-bridge"
SCHEMAS = Path(__file__).parents[2] / "schemas"

CONFIG = """
[bridge]
service = "mine"
schemas = {schemas}

[kafka]
bootstrap = "kafka.example.com:9092"
security_protocol = "SASL_SSL"
sasl_mechanism = "SCRAM-SHA-512"
username = "me"
password = "secret"
session_timeout = "6s"
rebalance_timeout = "10s"

[redis]
url = "rediss://redis.example.com:6379/0"

[[route]]
name = "payments"
topic = "orders.placed"
concurrency = 8
commit_interval = "100ms"

[route.contract]
subject = "shop.OrderPlaced"

[route.target]
kind = "http"
url = "https://payments.example.com/orders"
timeout = "2s"

[route.claims]
lease = "4s"

[route.shutdown]
drain = "3s"
"""


def chaos(*arguments: str, cwd: Path, status: int, timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(COMMAND), "chaos", "run", *arguments], cwd=cwd, capture_output=True, text=True, timeout=timeout_s
    )
    assert done.returncode == status, done.stdout + done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bridge.toml").write_text(CONFIG.format(schemas=json.dumps(str(SCHEMAS))))
    return tmp_path


def test_the_list_names_every_fault_with_its_rows(tmp_path: Path) -> None:
    listed = json.loads(chaos("--list", "--json", cwd=tmp_path, status=0).stdout)
    by_name = {fault["name"]: fault for fault in listed}
    assert by_name["worker-freeze-session"]["rows"] == [10]
    assert by_name["leader-kill"]["brokers"] == 3
    assert "redis-flushall" in chaos("--list", cwd=tmp_path, status=0).stdout


def test_a_fault_of_no_such_name_has_a_near_one(tmp_path: Path) -> None:
    said = chaos("--fault", "worker-kil", cwd=tmp_path, status=2).stderr
    assert "did you mean worker-kill?" in said


def test_all_and_one_exclude_each_other(tmp_path: Path) -> None:
    assert "exclude each other" in chaos("--all", "--fault", "none", cwd=tmp_path, status=2).stderr


def test_what_is_not_there_is_named(folder: Path) -> None:
    assert "nowhere.toml" in chaos("--config", "nowhere.toml", cwd=folder, status=3).stderr
    assert "no route 'x'" in chaos("--config", "bridge.toml", "--route", "x", cwd=folder, status=3).stderr
    said = chaos("--config", "bridge.toml", "--records", "nowhere.ndjson", cwd=folder, status=3).stderr
    assert "nowhere.ndjson" in said
    (folder / "bad.ndjson").write_text("{}\n{not json\n")
    assert "bad.ndjson:2" in chaos("--config", "bridge.toml", "--records", "bad.ndjson", cwd=folder, status=2).stderr


def test_a_sink_needs_an_http_target(tmp_path: Path) -> None:
    assert "HTTP target only" in chaos("--sink", cwd=tmp_path, status=2).stderr


@pytest.mark.soak
def test_a_route_of_ones_own_is_tried_on_private_servers_with_a_sink(folder: Path) -> None:
    """The configuration names servers that do not exist: nothing of them is asked."""
    done = chaos(
        "--config", "bridge.toml", "--sink", "--install", "--duration", "2", "--json", "--keep", "kept",
        "--fault", "worker-kill", "--fault", "target-down", "--fault", "deadly-message",
        cwd=folder, status=0, timeout_s=240,
    )  # fmt: skip
    result = json.loads(done.stdout)
    assert result["passed"]
    assert (result["run"], result["skipped"]) == (2, 1)
    killed, down, deadly = result["faults"]
    assert killed["deaths"] >= 3
    assert killed["verdict"]["acknowledged"] >= 300
    assert killed["verdict"]["effects"] >= killed["verdict"]["acknowledged"]
    assert down["logged"]["breaker_opened"] >= 1
    assert down["verdict"]["dead"] == 0
    assert "built-in workload" in deadly["skipped"]
    assert (folder / "kept" / "01-worker-kill" / "effects.ndjson").stat().st_size > 0
    assert not (folder / "kept" / "1-broker" / "servers").exists(), "the private servers and their data are gone"


def test_given_records_are_what_is_sent(folder: Path) -> None:
    order = {
        "order_id": "o-1", "customer_id": "c-1", "amount_cents": 1, "currency": "EUR", "placed_at": 1790000000000,
        "note": "by hand", "lines": [], "channel": "web",
    }  # fmt: skip
    (folder / "orders.ndjson").write_text(json.dumps({"key": "mine", "value": order}) + "\n")
    done = chaos(
        "--config", "bridge.toml", "--sink", "--records", "orders.ndjson", "--install", "--duration", "1",
        "--fault", "none", "--keep", "kept", cwd=folder, status=0, timeout_s=120,
    )  # fmt: skip
    assert "The guarantee held under all 1 faults" in done.stdout
    lines = (folder / "kept" / "01-none" / "deliveries.ndjson").read_text().splitlines()
    starts = [json.loads(line) for line in lines if '"start"' in line]
    assert {start["record_key"] for start in starts} == {"mine"}
