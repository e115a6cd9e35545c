"""A record at a time, as most first versions are: SET NX, handler, send and wait, commit every hundred."""

from __future__ import annotations

import asyncio
import io
import json
import struct
from typing import Any

import fastavro
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from redis.asyncio import Redis

from benchmarks.job import PAYMENT, SCHEMAS, Job, answer

DAY_S = 86_400


def parsed(subject: str, version: int) -> Any:
    """A schema as fastavro wants it."""
    return fastavro.parse_schema(json.loads((SCHEMAS / subject / f"v{version}.avsc").read_text()))


async def run(job: Job, limit_s: float) -> tuple[int, float]:
    """Handle records for at most ``limit_s`` seconds; returns how many in how many seconds, the first fetch not
    counted."""
    writers = {1: parsed("shop.OrderPlaced", 1), 2: parsed("shop.OrderPlaced", 2)}
    payment = parsed(PAYMENT, 1)
    consumer = AIOKafkaConsumer(
        job.source,
        bootstrap_servers=job.bootstrap,
        group_id=job.name,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    producer = AIOKafkaProducer(bootstrap_servers=job.bootstrap, acks="all", enable_idempotence=True)
    redis = Redis.from_url(job.redis_url)
    await consumer.start()
    await producer.start()
    loop, done, started = asyncio.get_running_loop(), 0, 0.0
    try:
        while done < job.records and (not started or loop.time() - started < limit_s):
            record = await consumer.getone()
            started = started or loop.time()
            event_id = dict(record.headers)["ce_id"]
            if await redis.set(f"{job.name}:{event_id.decode()}", b"1", nx=True, ex=DAY_S):
                (schema_id,) = struct.unpack(">i", record.value[1:5])
                value: Any = fastavro.schemaless_reader(io.BytesIO(record.value[5:]), writers[schema_id], None)
                result = answer(value)
                body = io.BytesIO()
                fastavro.schemaless_writer(body, payment, result)
                key = result["customer_id"].encode()
                await producer.send_and_wait(job.results, b"\0" + struct.pack(">i", 3) + body.getvalue(), key=key)
            done += 1
            if done % 100 == 0:
                await consumer.commit()
        await consumer.commit()
        return done, loop.time() - started
    finally:
        await consumer.stop()
        await producer.stop()
        await redis.aclose()
