"""``schemas check --config --live``: who breaks, and whether what lies in Kafka would still decode."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bridge_on_servers import SCHEMAS, open_world, write_config
from replay_world import World

ORDER = bytes.fromhex(json.loads((SCHEMAS / "golden" / "order-placed-v1.json").read_text())["hex"])
COMMAND = str(Path(sys.executable).with_name("broker-bridge"))


def config_of(folder: Path, **servers: str) -> Path:
    """The configuration of all tests, its route reading as the newest version."""
    path = write_config(folder, **servers)
    path.write_text(path.read_text().replace(", version = 2", ""))
    return path


@pytest.fixture
async def world(kafka_bootstrap: str, redis_url: str, unique: str, tmp_path: Path):
    opened = await open_world(config_of(tmp_path, bootstrap=kafka_bootstrap, redis_url=redis_url, prefix=unique))
    yield opened
    await opened.stop()


def check(home: Path, *arguments: str, status: int) -> Any:
    done = subprocess.run(
        [COMMAND, "schemas", "check", *arguments, "--json"], cwd=home, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout or done.stderr)


def new_version(home: Path, **field: Any) -> str:
    schema = json.loads((SCHEMAS / "shop.OrderPlaced" / "v2.avsc").read_text())
    schema["fields"].append({"name": "gift", "type": "boolean", **field})
    (home / "new.avsc").write_text(json.dumps(schema))
    return "new.avsc"


async def test_live_records(world: World, tmp_path: Path) -> None:
    *_, dead = await world.produce(3, value=ORDER)
    await world.produce(1, partition=1, value=b"\x00\xff no Avro")
    await world.die(dead)
    options = ("--config", "bridge.toml", "--live")
    fine = check(tmp_path, new_version(tmp_path, default=False), *options, status=0)
    topic, letters = fine["records"]
    assert (topic["read"], topic["decoded"], topic["failed"], topic["unreadable"]) == (4, 3, 0, 1)
    assert (letters["dead_letters"], letters["read"], letters["decoded"]) == (True, 1, 1)

    bad = check(tmp_path, new_version(tmp_path), *options, status=1)
    topic, letters = bad["records"]
    assert (topic["decoded"], topic["failed"], letters["failed"]) == (0, 3, 1)
    assert "gift" in topic["examples"][0]
    assert topic["examples"][0].startswith(f"{world.route.topic}/0/0: ")
    broken = [one for one in bad["consumers"] if one["breaks"]]
    assert {(one["group"], one["when"]) for one in broken} == {(world.route.group, "restarted")}
    assert {problem["field"] for one in broken for problem in one["problems"]} == {"gift"}


def test_kafka_is_away(tmp_path: Path, redis_url: str) -> None:
    config_of(tmp_path, bootstrap="127.0.0.1:1", redis_url=redis_url, prefix="p")
    new = new_version(tmp_path, default=False)
    assert check(tmp_path, new, "--config", "bridge.toml", status=0)["compatible"] is True
    assert check(tmp_path, new, "--config", "bridge.toml", "--live", status=4)["code"] == "kafka_unavailable"
    assert check(tmp_path, new, "--live", status=2)["code"] == "usage"
    assert check(tmp_path, "--config", "bridge.toml", status=2)["code"] == "usage"
