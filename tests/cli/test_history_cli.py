"""``broker-bridge history`` and the operations topic, as installed, on a real Kafka."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from bridge_on_servers import write_config

from broker_bridge.cli.operator_scope import open_operations
from broker_bridge.config import load_config
from broker_bridge.core.operation import Action, Operation
from broker_bridge.message import OutgoingRecord
from broker_bridge.replay.operations_log import OperationsLog

COMMAND = [str(Path(sys.executable).with_name("broker-bridge")), "history"]
DEADLINE_S = 60


@pytest.fixture
async def log(kafka_bootstrap: str, unique: str, tmp_path: Path):
    config = write_config(tmp_path, bootstrap=kafka_bootstrap, redis_url="redis://127.0.0.1:1/0", prefix=unique)
    async with open_operations(load_config(config, {})) as opened:
        yield opened


def history(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_BRIDGE_")}
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, cwd=folder, timeout=DEADLINE_S, env=environment
    )
    assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def operation(number: int, action: str, **fields: object) -> Operation:
    given = {"by": "ada", "host": "till-1", "route": "payments", "plan_id": "a1b2c3d4", **fields}
    return Operation(id=str(number), at_ms=1_790_000_000_000 + number * 1_000, action=action, **given)  # type: ignore[arg-type]


async def test_history(log: OperationsLog, kafka_bootstrap: str, tmp_path: Path) -> None:
    assert "No operator's action was recorded yet" in history(tmp_path).stdout
    assert await log.extent() is None, "looking creates no topic"

    await log.record(operation(0, Action.REPLAY_PLANNED, why="cards work\x1b[31m", counts={"to_replay": 42}))
    producer = log._transport.producer()
    await producer.start()
    try:
        await producer.send_batch([OutgoingRecord(log.topic, b'{"version":1,"at_ms":17', partition=0)])
    finally:
        await producer.stop()
    await log.record(operation(1, Action.REPLAY_STARTED))
    await log.record(operation(2, Action.LETTERS_DISCARDED, by="bob", plan_id="", counts={"discarded": 3}))

    shown = history(tmp_path)
    rows = [line for line in shown.stdout.splitlines() if "@till-1" in line]
    assert [row.split()[2] for row in rows] == ["replay_planned", "replay_started", "letters_discarded"]
    assert "42 to replay" in rows[0]
    assert "cards work\\x1b[31m" in rows[0]
    assert f"{log.topic}/0/1 is no JSON, or was cut" in shown.stderr
    story = history(tmp_path, "--plan", "a1b2").stdout
    assert "planned by ada@till-1" in story
    assert "it still runs, or was killed" in story
    assert "bob" not in story
    found = json.loads(history(tmp_path, "--by", "bob", "--action", "letters_discarded", "--json").stdout)
    assert [(one["by"], one["counts"]) for one in found["operations"]] == [("bob", {"discarded": 3})]
    assert found["unreadable"] == 1
    assert "is not a time" in history(tmp_path, "--since", "yesterday", code=2).stderr
    history(tmp_path, "--action", "dancing", code=2)

    settings = await topic_settings(kafka_bootstrap, log.topic)
    assert (settings["retention.ms"], settings["retention.bytes"], settings["cleanup.policy"]) == ("-1", "-1", "delete")


def test_kafka_away_is_a_sentence(tmp_path: Path) -> None:
    write_config(tmp_path, bootstrap="127.0.0.1:1", redis_url="redis://127.0.0.1:1/0", prefix="x")
    assert "127.0.0.1:1" in history(tmp_path, code=4).stderr


async def topic_settings(bootstrap: str, topic: str) -> dict[str, str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    finally:
        await admin.close()
    return {entry[0]: entry[1] for answer in answers for resource in answer.resources for entry in resource[4]}


def test_help_has_an_example_and_imports_no_client(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *COMMAND, "--help"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0
    assert "Example:" in done.stdout
    assert "Exit status:" in done.stdout
    for heavy in ("aiokafka", "redis", "fastavro", "pydantic"):
        assert not re.search(rf"\| +{heavy}\b", done.stderr), heavy
