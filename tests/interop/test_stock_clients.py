"""The clients that services already have for schema registries, with our server and with a real one, through Kafka.

franz-go's ``sr``, Rust's schema_registry_converter and confluent-kafka's serializers each register the versions of a
contract under the topic's subject and write the golden vectors, and so does the bridge; then each of the four reads
what all wrote.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, SchemaRegistryError
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from test_languages import GOLDEN, PARTITIONS, SCHEMAS, config, make_topic, run

from broker_bridge import Bridge, OutgoingRecord, Position
from broker_bridge.bootstrap import open_transport
from broker_bridge.config import RegistrySection, config_from
from broker_bridge.contracts.codec import Codec
from broker_bridge.contracts.directory import SchemaDirectory
from broker_bridge.contracts.registry_client import RegistryClient
from broker_bridge.contracts.registry_source import RegistrySource

SUBJECT = "shop.OrderPlaced"
VECTORS = [vector for vector in GOLDEN if vector["subject"] == SUBJECT]
RECORDS_WITHIN_S = 60.0
Written = list[int]
Read = list[tuple[int, Any]]


def schema_text(version: int) -> str:
    return (SCHEMAS / SUBJECT / f"v{version}.avsc").read_text(encoding="utf-8")


# --- programs of other languages -------------------------------------------------------------------------


def written_by(program: Path, kafka: str, registry: str, topic: str) -> Written:
    """The ids under which the program wrote the vectors."""
    where = ("--brokers", kafka, "--topic", topic, "--registry", registry)
    said = run(str(program), "registry-produce", *where, "--schemas", str(SCHEMAS), "--subject", SUBJECT)
    return [json.loads(line)["schema_id"] for line in said.splitlines()]


def read_by(program: Path, kafka: str, registry: str, topic: str, count: int) -> Read:
    """Ids and values as the program reads them."""
    where = ("--brokers", kafka, "--topic", topic, "--registry", registry)
    limit = str(int(RECORDS_WITHIN_S))
    said = run(str(program), "registry-consume", *where, "--max", str(count), "--timeout-s", limit)
    return [(line["schema_id"], line["value"]) for line in map(json.loads, said.splitlines())]


# --- confluent-kafka -------------------------------------------------------------------------------------


def written_by_confluent(kafka: str, registry: str, topic: str) -> Written:
    context = SerializationContext(topic, MessageField.VALUE)
    producer = Producer({"bootstrap.servers": kafka})
    answers: list[Any] = []
    ids = []
    with SchemaRegistryClient({"url": registry}) as client:
        for vector in VECTORS:
            value = AvroSerializer(client, schema_text(vector["version"]))(vector["value"], context)
            ids.append(int.from_bytes(value[1:5], "big"))
            producer.produce(topic, value, key=vector["key"], on_delivery=lambda error, _: answers.append(error))
    assert producer.flush(RECORDS_WITHIN_S) == 0
    assert answers == [None] * len(VECTORS)
    return ids


def read_by_confluent(kafka: str, registry: str, topic: str, count: int) -> Read:
    context = SerializationContext(topic, MessageField.VALUE)
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": topic, "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)])
        values: list[bytes] = []
        deadline = time.monotonic() + RECORDS_WITHIN_S
        while len(values) < count:
            assert time.monotonic() < deadline, f"{len(values)} of {count} records"
            batch = consumer.consume(count - len(values), timeout=1.0)
            values += [one.value() for one in batch if one.error() is None]  # errors of the client pass
    finally:
        consumer.close()
    with SchemaRegistryClient({"url": registry}) as client:
        decode = AvroDeserializer(client)
        found = [(int.from_bytes(value[1:5], "big"), decode(value, context)) for value in values]
    for _, value in found:
        value["placed_at"] = round(value["placed_at"].timestamp() * 1000)
    return found


# --- the bridge ------------------------------------------------------------------------------------------


def codec_of(registry: str) -> Codec:
    return Codec(RegistrySource(RegistryClient(RegistrySection(url=registry))))


async def written_by_bridge(codec: Codec, kafka: str, topic: str) -> Written:
    producer = open_transport(config(kafka)).producer()
    await producer.start()
    try:
        values = [codec.encode(f"{topic}-value", vector["version"], vector["value"]) for vector in VECTORS]
        records = [
            OutgoingRecord(topic, value, key=vector["key"].encode())
            for value, vector in zip(values, VECTORS, strict=True)
        ]
        answers = await producer.send_batch(records)
    finally:
        await producer.stop()
    assert all(isinstance(answer, Position) for answer in answers)
    return [int.from_bytes(value[1:5], "big") for value in values]


async def read_by_bridge(codec: Codec, kafka: str, topic: str) -> Read:
    reader = open_transport(config(kafka)).reader()
    await reader.start()
    try:
        bounds = await reader.offsets([topic])
        starts, ends = ({tp: pair[end] for tp, pair in bounds.items()} for end in (0, 1))
        records = [record async for batch in reader.read(starts, ends) for record in batch]
    finally:
        await reader.stop()
    found = []
    for record in records:
        assert record.value is not None
        value, schema = await asyncio.to_thread(codec.decode_json_ready, record.value)
        found.append((schema.schema_id, value))
    return found


# --- all with all ----------------------------------------------------------------------------------------


def require_all_vectors(records: Read, ids: dict[int, int], writers: int) -> None:
    """Each vector is there once from each writer, under its version's id."""
    wanted = [(ids[vector["version"]], json.dumps(vector["value"], sort_keys=True)) for vector in VECTORS] * writers
    assert sorted((found, json.dumps(value, sort_keys=True)) for found, value in records) == sorted(wanted)


def test_every_client_reads_what_every_client_registered_and_wrote(
    registry_url: str, orders: Path, payments_kafka: Path, kafka_bootstrap: str, unique: str
) -> None:
    asyncio.run(make_topic(kafka_bootstrap, unique))
    at = (kafka_bootstrap, registry_url, unique)
    codec = codec_of(registry_url)
    first = written_by(payments_kafka, *at)
    ids = {vector["version"]: found for vector, found in zip(VECTORS, first, strict=True)}
    assert len(ids) == len(set(ids.values())) == 2
    writers: dict[str, Callable[[], Written]] = {
        "go": lambda: written_by(orders, *at),
        "python": lambda: written_by_confluent(*at),
        "bridge": lambda: asyncio.run(written_by_bridge(codec, kafka_bootstrap, unique)),
    }
    for name, write in writers.items():
        assert write() == first, f"{name} has the ids that Rust was given"
    count = 4 * len(VECTORS)
    readers: dict[str, Callable[[], Read]] = {
        "rust": lambda: read_by(payments_kafka, *at, count),
        "go": lambda: read_by(orders, *at, count),
        "python": lambda: read_by_confluent(*at, count),
        "bridge": lambda: asyncio.run(read_by_bridge(codec, kafka_bootstrap, unique)),
    }
    for read in readers.values():
        require_all_vectors(read(), ids, 4)


def test_what_clients_register_with_us_is_a_folder_that_workers_read(
    schema_server: str, served_schemas: Path, kafka_bootstrap: str, unique: str
) -> None:
    asyncio.run(make_topic(kafka_bootstrap, unique))
    ids = written_by_confluent(kafka_bootstrap, schema_server, unique)
    folder = SchemaDirectory(served_schemas)
    assert [contract.schema_id for contract in folder.versions(f"{unique}-value")] == sorted(set(ids))
    records = asyncio.run(read_by_bridge(Codec(folder), kafka_bootstrap, unique))
    require_all_vectors(records, {1: min(ids), 2: max(ids)}, 1)


def test_the_comparison_sees_a_difference() -> None:
    records = [(vector["version"], dict(vector["value"])) for vector in VECTORS]
    require_all_vectors(records, {1: 1, 2: 2}, 1)
    records[0][1]["amount_cents"] += 1
    with pytest.raises(AssertionError):
        require_all_vectors(records, {1: 1, 2: 2}, 1)


# --- a service that embeds the bridge, beside one that does not ------------------------------------------


def bridge_at(kafka: str, redis: str, registry: str, schemas: Path) -> Bridge:
    """With contracts from the registry, under the topics' names as stock serializers have them; no folder."""
    return Bridge(
        config=config_from(
            {
                "bridge": {"schemas": str(schemas), "subjects": "topic"},
                "kafka": {"bootstrap": kafka},
                "redis": {"url": redis},
                "registry": {"url": registry, "cache": "off"},
                "health": {"listen": "off"},
            }
        )
    )


async def handled(bridge: Bridge, topic: str, count: int) -> dict[str, Any]:
    """What a handler of the bridge was given, by order, once there are ``count``."""
    orders: dict[str, Any] = {}
    complete = asyncio.Event()

    @bridge.route(topic, group=topic, contract=SUBJECT)
    async def take(order: dict[str, Any]) -> None:
        orders[order["order_id"]] = order
        if len(orders) == count:
            complete.set()

    running = asyncio.create_task(bridge.run(signals=False))
    waiting = asyncio.create_task(complete.wait())
    try:
        await asyncio.wait({running, waiting}, timeout=RECORDS_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        bridge.stop()
        await running
    return orders


async def test_bridge_and_stock_client_hand_each_other_orders(
    registry_url: str, kafka_bootstrap: str, redis_url: str, unique: str, tmp_path: Path
) -> None:
    await asyncio.to_thread(lambda: asyncio.run(make_topic(kafka_bootstrap, unique)))
    at = (kafka_bootstrap, registry_url, unique)
    ids = await asyncio.to_thread(written_by_confluent, *at)
    found = await handled(bridge_at(kafka_bootstrap, redis_url, registry_url, tmp_path / "none"), unique, len(VECTORS))
    assert set(found) == {vector["value"]["order_id"] for vector in VECTORS}
    assert all("channel" in order for order in found.values()), "read as the registry's latest version"

    async with bridge_at(kafka_bootstrap, redis_url, registry_url, tmp_path / "none").producer(
        source="/shop"
    ) as producer:
        await producer.send(unique, {**VECTORS[-1]["value"], "note": "by the bridge"}, key="k", contract=SUBJECT)
    records = await asyncio.to_thread(read_by_confluent, *at, len(VECTORS) + 1)
    [(schema_id, value)] = [(one, value) for one, value in records if value["note"] == "by the bridge"]
    assert schema_id == max(ids)
    assert value["order_id"] == VECTORS[-1]["value"]["order_id"]


# --- confluent-kafka's client, call by call --------------------------------------------------------------


@pytest.fixture
def confluent(registry_url: str) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": registry_url, "max.retries": 0}) as client:
        yield client


def refusal(call: Callable[..., Any], *arguments: Any) -> tuple[int, int]:
    """The HTTP status and the error code that a call ends with."""
    with pytest.raises(SchemaRegistryError) as caught:
        call(*arguments)
    return caught.value.http_status_code, caught.value.error_code


def test_confluent_kafka_meets_the_errors_it_expects(confluent: SchemaRegistryClient, unique: str) -> None:
    subject = f"{unique}-value"
    one, two = (Schema(schema_text(version), "AVRO") for version in (1, 2))
    breaking = Schema(schema_text(1).replace('"long"', '"string"', 1), "AVRO")
    assert refusal(confluent.get_latest_version, subject) == (404, 40401)
    first = confluent.register_schema(subject, one)
    assert confluent.register_schema(subject, one) == first
    assert confluent.lookup_schema(subject, one).schema_id == first
    latest = confluent.get_latest_version(subject)
    assert (latest.subject, latest.version, latest.schema_id) == (subject, 1, first)
    assert confluent.test_compatibility(subject, two)
    assert not confluent.test_compatibility(subject, breaking)
    assert refusal(confluent.register_schema, subject, breaking)[0] == 409
    assert refusal(confluent.register_schema, subject, Schema("{", "AVRO")) == (422, 42201)
    assert refusal(confluent.lookup_schema, subject, two) == (404, 40403)
    assert refusal(confluent.get_version, subject, 9) == (404, 40402)
    assert refusal(confluent.get_schema, 2_000_000_000) == (404, 40403)
    assert subject in confluent.get_subjects()
    assert confluent.get_versions(subject) == [1]
    confluent.set_compatibility(subject, "FULL")
    assert confluent.get_compatibility(subject) == "FULL"
