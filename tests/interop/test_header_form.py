"""The schema's GUID in a header, as Confluent's own serializer writes it and its deserializer reads it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient, header_schema_id_serializer
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from test_languages import PARTITIONS, config, make_topic
from test_stock_clients import RECORDS_WITHIN_S, VECTORS, codec_of, schema_text

from broker_bridge.bootstrap import open_transport
from broker_bridge.clock import SystemClock
from broker_bridge.contracts import Codec, SchemaDirectory, SubjectNaming, WireForm
from broker_bridge.producer import Producer

TOPIC = "orders.placed"


def context(headers: list[tuple[str, Any]]) -> SerializationContext:
    return SerializationContext(TOPIC, MessageField.VALUE, headers)


def written_by_confluent(registry: str) -> list[tuple[bytes, bytes]]:
    """Body and header of each vector."""
    found = []
    with SchemaRegistryClient({"url": registry}) as client:
        for vector in VECTORS:
            headers: list[tuple[str, Any]] = []
            options = {"schema.id.serializer": header_schema_id_serializer}
            serializer = AvroSerializer(client, schema_text(vector["version"]), conf=options)
            body = serializer(vector["value"], context(headers))
            [(name, value)] = headers
            assert name == "__value_schema_id"
            found.append((body, value))
    return found


def test_what_confluents_serializer_writes_is_read_from_folder_and_registry(
    schema_server: str, served_schemas: Path
) -> None:
    written = written_by_confluent(schema_server)
    folder, registry = Codec(SchemaDirectory(served_schemas)), codec_of(schema_server)
    for (body, header), vector in zip(written, VECTORS, strict=True):
        assert body == bytes.fromhex(vector["hex"])[5:]
        for codec in (folder, registry):
            found = codec.decode_json_ready(body, schema_header=header)
            assert found.value == vector["value"]
            assert found.schema.subject == f"{TOPIC}-value"


def test_what_the_bridge_writes_is_read_by_confluents_deserializer(schema_server: str, served_schemas: Path) -> None:
    written = written_by_confluent(schema_server)
    codec = Codec(SchemaDirectory(served_schemas), naming=SubjectNaming.TOPIC)
    with SchemaRegistryClient({"url": schema_server}) as client:
        decode = AvroDeserializer(client)
        for (_, header), vector in zip(written, VECTORS, strict=True):
            made = codec.encode_for(TOPIC, vector["subject"], vector["version"], vector["value"], WireForm.HEADER)
            assert made.headers == (("__value_schema_id", header),), "the very GUID that the registry told"
            found = decode(made.value, context(list(made.headers)))
            found["placed_at"] = round(found["placed_at"].timestamp() * 1000)
            assert found == vector["value"]


def test_records_of_the_bridges_producer_are_read_from_kafka(
    schema_server: str, served_schemas: Path, kafka_bootstrap: str, unique: str
) -> None:
    """Into Kafka by the embedded producer, out of it by confluent-kafka: header, body and all."""
    asyncio.run(make_topic(kafka_bootstrap, unique))
    written_by_confluent(schema_server)
    codec = Codec(SchemaDirectory(served_schemas))

    async def produce() -> None:
        transport = open_transport(config(kafka_bootstrap))
        async with Producer(transport, codec, source="/t", clock=SystemClock(), wire_form="header") as producer:
            for vector in VECTORS:
                contract, version = f"{TOPIC}-value", vector["version"]
                await producer.send(unique, vector["value"], key="k", contract=contract, version=version)

    asyncio.run(produce())
    consumer = Consumer({"bootstrap.servers": kafka_bootstrap, "group.id": unique, "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(unique, partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)])
        records = consumer.consume(len(VECTORS), timeout=RECORDS_WITHIN_S)
    finally:
        consumer.close()
    with SchemaRegistryClient({"url": schema_server}) as client:
        decode = AvroDeserializer(client)
        found = [decode(one.value(), context(one.headers())) for one in records]
    for value, vector in zip(found, VECTORS, strict=True):
        value["placed_at"] = round(value["placed_at"].timestamp() * 1000)
        assert value == vector["value"]
