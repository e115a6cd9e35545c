"""Every language reads what every language writes: the golden vectors through a real Kafka, field by field."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from broker_bridge import Event, OutgoingRecord, Position
from broker_bridge.bootstrap import open_producer, open_transport
from broker_bridge.config import BridgeConfig, config_from
from broker_bridge.contracts.codec import Codec
from broker_bridge.contracts.directory import SchemaDirectory
from broker_bridge.transport.base import TopicSpec

SCHEMAS = Path(__file__).parents[2] / "schemas"
GOLDEN = [json.loads(path.read_text()) for path in sorted((SCHEMAS / "golden").glob("*.json"))]
PARTITIONS = 4
RUN_WITHIN_S = 120


def config(bootstrap: str, source: str = "/test") -> BridgeConfig:
    """The bridge's settings for these tests."""
    return config_from(
        {"bridge": {"schemas": str(SCHEMAS)}, "kafka": {"bootstrap": bootstrap}, "producer": {"source": source}}
    )


async def make_topic(bootstrap: str, topic: str) -> None:
    admin = open_transport(config(bootstrap)).admin()
    await admin.start()
    await admin.ensure([TopicSpec(topic, PARTITIONS)])
    await admin.stop()


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_WITHIN_S, check=False)
    assert done.returncode == 0, f"{command[:2]} ended with {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout


def written_by_program(program: Path, bootstrap: str, topic: str) -> None:
    run(str(program), "produce-golden", "--brokers", bootstrap, "--topic", topic, "--schemas", str(SCHEMAS))


async def written_by_python(bootstrap: str, topic: str) -> None:
    """By the SDK's producer; header sets that it would not make by itself go as raw records."""
    found = config(bootstrap, source="/shop/orders")
    codec = Codec(SchemaDirectory(SCHEMAS))
    async with open_producer(found) as producer:
        for vector in GOLDEN:
            headers = dict(vector["headers"])
            if "traceparent" not in headers or headers["ce_source"] != "/shop/orders":
                await _write_raw(found, codec, topic, vector)
                continue
            (answer,) = await producer.send_batch(
                [
                    Event(
                        topic=topic,
                        value=vector["value"],
                        key=vector["key"],
                        contract=vector["subject"],
                        version=vector["version"],
                        event_id=headers["ce_id"],
                        subject=headers["ce_subject"],
                        time_ms=round(datetime.fromisoformat(headers["ce_time"]).timestamp() * 1000),
                        traceparent=headers["traceparent"],
                    )
                ]
            )
            assert isinstance(answer, Position)


async def _write_raw(found: BridgeConfig, codec: Codec, topic: str, vector: dict[str, Any]) -> None:
    producer = open_transport(found).producer()
    await producer.start()
    value = codec.encode(vector["subject"], vector["version"], vector["value"])
    headers = [(name, text.encode()) for name, text in vector["headers"]]
    (answer,) = await producer.send_batch([OutgoingRecord(topic, value, key=vector["key"].encode(), headers=headers)])
    await producer.stop()
    assert isinstance(answer, Position)


def read_by_program(program: Path, bootstrap: str, topic: str) -> list[dict[str, Any]]:
    text = run(
        str(program), "consume", "--brokers", bootstrap, "--topic", topic, "--schemas", str(SCHEMAS),
        "--max", str(len(GOLDEN)), "--timeout-s", "60",
    )  # fmt: skip
    return [json.loads(line) for line in text.splitlines()]


async def read_by_python(bootstrap: str, topic: str) -> list[dict[str, Any]]:
    codec = Codec(SchemaDirectory(SCHEMAS))
    reader = open_transport(config(bootstrap)).reader()
    await reader.start()
    bounds = await reader.offsets([topic])
    found: list[dict[str, Any]] = []
    starts, ends = ({tp: pair[end] for tp, pair in bounds.items()} for end in (0, 1))
    async for batch in reader.read(starts, ends):
        for record in batch:
            assert record.value is not None
            assert record.key is not None
            value, schema = codec.decode_json_ready(record.value)
            found.append(
                {
                    "partition": record.partition,
                    "key": record.key.decode(),
                    "headers": [[name, (raw or b"").decode()] for name, raw in record.headers],
                    "schema_id": schema.schema_id,
                    "subject": schema.subject,
                    "version": schema.version,
                    "value": value,
                }
            )
    await reader.stop()
    return found


def same_as_golden(records: list[dict[str, Any]]) -> None:
    """Each vector came through: value, key, headers in order, schema, and the partition that its key decides."""
    assert len(records) == len(GOLDEN)
    for vector in GOLDEN:
        (record,) = [found for found in records if found["headers"] == vector["headers"]]
        assert record["value"] == vector["value"], vector["name"]
        assert record["key"] == vector["key"]
        assert (record["subject"], record["version"]) == (vector["subject"], vector["version"])
        assert record["schema_id"] == vector["schema_id"]
        assert record["partition"] == vector["partition_of_4"]


@pytest.fixture(scope="module")
def languages(orders: Path, payments_kafka: Path) -> dict[str, tuple[Callable[..., Any], Callable[..., Any]]]:
    """How each language writes the golden vectors to a topic, and reads a topic."""
    return {
        "go": (lambda *at: written_by_program(orders, *at), lambda *at: read_by_program(orders, *at)),
        "rust": (lambda *at: written_by_program(payments_kafka, *at), lambda *at: read_by_program(payments_kafka, *at)),
        "python": (
            lambda *at: asyncio.run(written_by_python(*at)),
            lambda *at: asyncio.run(read_by_python(*at)),
        ),
    }


@pytest.mark.parametrize("writer", ["go", "python", "rust"])
def test_every_language_reads_what_one_writes(
    writer: str, languages: dict[str, tuple[Callable[..., Any], Callable[..., Any]]], kafka_bootstrap: str, unique: str
) -> None:
    asyncio.run(make_topic(kafka_bootstrap, unique))
    languages[writer][0](kafka_bootstrap, unique)
    for reader in ("go", "python", "rust"):
        same_as_golden(languages[reader][1](kafka_bootstrap, unique))


def test_the_comparison_sees_a_difference() -> None:
    records = [
        {**vector, "headers": [list(pair) for pair in vector["headers"]], "partition": vector["partition_of_4"]}
        for vector in json.loads(json.dumps(GOLDEN))
    ]
    same_as_golden(records)
    records[0]["value"]["amount_cents"] += 1
    with pytest.raises(AssertionError):
        same_as_golden(records)


@pytest.mark.parametrize("program", ["orders", "payments_kafka"])
def test_each_program_checks_the_golden_vectors_by_itself(program: str, request: pytest.FixtureRequest) -> None:
    run(str(request.getfixturevalue(program)), "golden", "--schemas", str(SCHEMAS))
