"""`broker-bridge doctor` against real servers, and without any."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DEADLINE_S = 60.0
SCHEMAS = Path(__file__).parents[2] / "schemas"


@pytest.fixture
def target() -> Iterator[str]:
    """host:port of something that accepts connections."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def bridge(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_BRIDGE_")}
    done = subprocess.run(
        ["broker-bridge", *arguments], capture_output=True, text=True, timeout=DEADLINE_S, env=clean, cwd=cwd
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


def config(folder: Path, *, bootstrap: str, redis: str, target: str, topic: str = "orders", version: int = 1) -> None:
    folder.joinpath("bridge.toml").write_text(
        f"""
[bridge]
schemas = "{SCHEMAS}"
[kafka]
bootstrap = "{bootstrap}"
[redis]
url = "{redis}"
[[route]]
name = "payments"
topic = "{topic}"
group = "{topic}-payments"
contract = {{ subject = "shop.OrderPlaced", version = {version} }}
target = {{ kind = "http", url = "http://{target}/payments" }}
output = {{ topic = "{topic}-captured", subject = "shop.PaymentCaptured" }}
retry = {{ lanes = ["2s"] }}
""",
        encoding="utf-8",
    )


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, list[dict[str, Any]]]:
    """The findings of ``--json`` by the name of the check."""
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads(done.stdout)["findings"]:
        found.setdefault(finding["check"], []).append(finding)
    return found


def statuses(done: subprocess.CompletedProcess[str], check: str) -> list[str]:
    return [finding["status"] for finding in findings(done)[check]]


def test_all_is_well_once_the_topics_are_there(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str, target: str, unique: str
) -> None:
    config(tmp_path, bootstrap=kafka_bootstrap, redis=redis_url, target=target, topic=unique)
    before = bridge("doctor", "--json", cwd=tmp_path)
    assert before.returncode == 1
    assert statuses(before, "kafka") == statuses(before, "redis") == statuses(before, "target payments") == ["ok"]
    missing = [finding["detail"] for finding in findings(before)["topics payments"]]
    assert missing == [
        f"topic {unique} does not exist",
        f"topic {unique}-payments.{unique}.retry-2s does not exist",
        f"topic {unique}-payments.{unique}.redrive does not exist",
        f"topic {unique}-payments.{unique}.dlq does not exist",
        f"topic {unique}-captured does not exist",
    ]
    assert bridge("worker", "topics", "--create", "4", cwd=tmp_path).returncode == 0
    after = bridge("doctor", "--json", cwd=tmp_path)
    assert after.returncode == 0, after.stdout
    assert json.loads(after.stdout)["ok"] is True
    for check in ("python", "config", "schemas", "kafka", "redis", "target payments", "topics payments"):
        assert statuses(after, check) == ["ok"], check
    shown = bridge("doctor", cwd=tmp_path)
    assert shown.returncode == 0
    assert "ok   topics payments  5 topics, 4 partitions each in source and lanes" in shown.stdout
    assert "\x1b" not in shown.stdout


def test_servers_that_are_away_are_told_with_the_remedy(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        away = f"127.0.0.1:{bound.getsockname()[1]}"
        config(tmp_path, bootstrap=away, redis=f"redis://:canary@{away}/0", target=away, version=9)
        done = bridge("doctor", "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert "canary" not in done.stdout + done.stderr
    found = findings(done)
    for check, status in (("kafka", "fail"), ("redis", "fail"), ("schemas", "fail"), ("target payments", "warn")):
        (finding,) = found[check]
        assert finding["status"] == status, check
    assert "versions 1 to 2, not 9" in found["schemas"][0]["detail"]
    assert found["kafka"][0]["remedy"].startswith("check that the brokers run")
    assert found["redis"][0]["remedy"].startswith("check that Redis runs")
    assert found["target payments"][0]["detail"] == f"{away} cannot be reached: Connection refused"


def test_a_bad_configuration_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "bridge.toml").write_text("[kafak]\n", encoding="utf-8")
    done = bridge("doctor", "--json", cwd=tmp_path)
    assert done.returncode == 1
    (finding,) = findings(done)["config"]
    assert (finding["status"], finding["detail"]) == ("fail", "bridge.toml: line 1: kafak: unknown key")
    assert finding["remedy"] == "did you mean 'kafka'?"
    assert "kafka" not in findings(done)


def test_without_a_configuration_this_machine_is_looked_at(tmp_path: Path) -> None:
    done = bridge("doctor", "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert statuses(done, "config") == ["warn"]
    assert {"python", "java", "mvn", "redis-server", "go", "cargo"} <= set(findings(done))
    named = bridge("doctor", "--json", "--config", "other.toml", cwd=tmp_path)
    assert named.returncode == 1
    assert statuses(named, "config") == ["fail"]
