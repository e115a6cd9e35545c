"""Collects the evidence: Kafka's topics read whole, record by record, and the services' own files.

With a Kafka client and an Avro reader of its own rather than with the bridge's, so that what the bridge's code does
to bytes cannot cancel out.
"""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import fastavro
from aiokafka import AIOKafkaConsumer

from demo.child import ChildError
from demo.evidence import Captured, Effect, Evidence, Place, Sent, Stored

READ_WITHIN_S = 60.0
FRAME_BYTES = 5
"""The magic byte and the schema id before the Avro body."""


async def gather_evidence(
    *,
    bootstrap: str,
    topic: str,
    dead_letter_topic: str,
    result_topic: str,
    manifest: Path,
    effects: Path,
    schemas: Path,
) -> Evidence:
    """Everything, from the first record and line to the last. Raises ``ChildError`` where something is unreadable."""
    result_schemas = schemas_by_id(schemas)
    async with asyncio.timeout(READ_WITHIN_S):
        return Evidence(
            topic=topic,
            sent=read_manifest(manifest),
            records=await read_topic(bootstrap, topic),
            letters=await read_topic(bootstrap, dead_letter_topic),
            results=[captured(record, result_schemas) for record in await read_topic(bootstrap, result_topic)],
            effects=read_effects(effects),
        )


async def read_topic(bootstrap: str, topic: str) -> list[Stored]:
    """Every record of a topic up to its end as it is now, partition by partition."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        tps = sorted(consumer.assignment())  # without a group: all of them
        if not tps:
            raise ChildError(f"there is no topic {topic} to read")
        ends = await consumer.end_offsets(tps)
        found: list[Stored] = []
        while left := [tp for tp in tps if await consumer.position(tp) < ends[tp]]:
            for tp, records in (await consumer.getmany(*left, timeout_ms=500, max_records=5_000)).items():
                found += [_stored(record) for record in records if record.offset < ends[tp]]
        return sorted(found, key=lambda record: record.place)
    finally:
        await consumer.stop()


def _stored(record: Any) -> Stored:
    return Stored(
        Place(record.partition, record.offset),
        record.timestamp,
        record.key,
        record.value,
        tuple((name, value) for name, value in record.headers),
    )


def schemas_by_id(folder: Path) -> dict[int, Any]:
    """The Avro schemas of ``ids.jsonl``, parsed."""
    found = {}
    for line in (folder / "ids.jsonl").read_text(encoding="utf-8").splitlines():
        known = json.loads(line)
        path = folder / known["subject"] / f"v{known['version']}.avsc"
        found[known["id"]] = fastavro.parse_schema(json.loads(path.read_text(encoding="utf-8")))
    return found


def captured(record: Stored, schemas: dict[int, Any]) -> Captured:
    """A result, decoded. Raises ``ChildError`` where it does not decode."""
    value = record.value or b""
    schema = schemas.get(int.from_bytes(value[1:FRAME_BYTES], "big"))
    try:
        if value[:1] != b"\0" or schema is None:
            raise ValueError("not framed under a known schema")
        fields: Any = fastavro.schemaless_reader(io.BytesIO(value[FRAME_BYTES:]), schema, None)
        return Captured(record.place, fields["order_id"], fields["amount_cents"])
    except Exception as error:
        raise ChildError(f"the result at {record.place} does not decode: {error}") from error


def read_manifest(path: Path) -> list[Sent]:
    """Orders' manifest. Raises ``ChildError`` for a line that is none."""
    return [
        Sent(
            line["id"],
            line["source"],
            line["kind"],
            line["duplicate"],
            line["key"],
            Place(line["partition"], line["offset"]),
            line["schema_version"],
            line["amount_cents"],
        )
        for line in _lines(path, needs=set(Sent._fields) - {"place"} | {"partition", "offset"})
    ]


def read_effects(path: Path) -> list[Effect]:
    """Payments' log. Raises ``ChildError`` for a line that is none, or is missing by its number."""
    found = []
    for number, line in enumerate(_lines(path, needs=set(Effect._fields) - {"line"} | {"seq"}), start=1):
        if line["seq"] != number:
            raise ChildError(f"{path}: line {number} has seq {line['seq']}")
        found.append(Effect(number, *(line[name] for name in Effect._fields[1:])))
    return found


def _lines(path: Path, *, needs: set[str]) -> list[dict[str, Any]]:
    found = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            line = json.loads(text)
        except ValueError as error:
            raise ChildError(f"{path}: line {number} is not JSON: {error}") from error
        if missing := needs - line.keys():
            raise ChildError(f"{path}: line {number} lacks {', '.join(sorted(missing))}")
        found.append(line)
    return found
