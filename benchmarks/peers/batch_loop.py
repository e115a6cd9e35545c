"""The best loop one writes by hand: one Lua claim a batch, sends pipelined, one complete, one commit; stages one
after the other.

No order within a key once something fails, no retries, no dead letters, no leases: what broker_bridge does beside is
not in here.
"""

from __future__ import annotations

import asyncio
import io
import struct
from typing import Any

import fastavro
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from redis.asyncio import Redis

from benchmarks.job import PAYMENT, Job, answer
from benchmarks.peers.naive import DAY_S, parsed

CLAIM = """
local out = {}
for i, key in ipairs(KEYS) do
  out[i] = redis.call('SET', key, 'p', 'NX', 'EX', ARGV[1]) and 1 or 0
end
return out
"""
COMPLETE = "for _, key in ipairs(KEYS) do redis.call('SET', key, 'c', 'EX', ARGV[1]) end return 1"
BATCH = 2_000


async def run(job: Job, limit_s: float) -> tuple[int, float]:
    """Handle everything or stop after ``limit_s``; returns how many records in how many seconds."""
    writers = {1: parsed("shop.OrderPlaced", 1), 2: parsed("shop.OrderPlaced", 2)}
    payment = parsed(PAYMENT, 1)
    consumer = AIOKafkaConsumer(
        job.source,
        bootstrap_servers=job.bootstrap,
        group_id=job.name,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    producer = AIOKafkaProducer(bootstrap_servers=job.bootstrap, acks="all", enable_idempotence=True, linger_ms=2)
    redis = Redis.from_url(job.redis_url)
    claim, complete = redis.register_script(CLAIM), redis.register_script(COMPLETE)
    await consumer.start()
    await producer.start()
    loop, done, started = asyncio.get_running_loop(), 0, 0.0
    try:
        while done < job.records and (not started or loop.time() - started < limit_s):
            fetched = await consumer.getmany(timeout_ms=200, max_records=BATCH)
            records: list[Any] = [record for batch in fetched.values() for record in batch]
            if not records:
                continue
            started = started or loop.time()
            keys = [f"{job.name}:{dict(record.headers)['ce_id'].decode()}" for record in records]
            granted = await claim(keys, [DAY_S])
            mine = [(key, record) for key, record, ours in zip(keys, records, granted, strict=True) if ours]
            sends = []
            for _, record in mine:
                (schema_id,) = struct.unpack(">i", record.value[1:5])
                value: Any = fastavro.schemaless_reader(io.BytesIO(record.value[5:]), writers[schema_id], None)
                result = answer(value)
                body = io.BytesIO()
                fastavro.schemaless_writer(body, payment, result)
                key = result["customer_id"].encode()
                sends.append(await producer.send(job.results, b"\0" + struct.pack(">i", 3) + body.getvalue(), key=key))
            await asyncio.gather(*sends)
            if mine:
                await complete([key for key, _ in mine], [DAY_S])
            await consumer.commit()
            done += len(records)
        return done, loop.time() - started
    finally:
        await consumer.stop()
        await producer.stop()
        await redis.aclose()
