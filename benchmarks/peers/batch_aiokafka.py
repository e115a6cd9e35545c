"""The best loop one writes by hand: one Lua claim a batch, sends pipelined, one complete, one commit; stages one
after the other.

No order within a key once something fails, no retries, no dead letters, no leases: what broker_bridge does beside is
not in here.
"""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import Redis

from benchmarks.job import BATCH, DAY_S, Job, answer
from benchmarks.peers.avro import decode_order, encode_payment
from benchmarks.peers.clients import consumer_of, producer_of, stop_at_sigterm
from benchmarks.stopwatch import Stopwatch

CLAIM = """
local out = {}
for i, key in ipairs(KEYS) do
  out[i] = redis.call('SET', key, 'p', 'NX', 'EX', ARGV[1]) and 1 or 0
end
return out
"""
COMPLETE = "for _, key in ipairs(KEYS) do redis.call('SET', key, 'c', 'EX', ARGV[1]) end return 1"


async def run(job: Job, watch: Stopwatch) -> None:
    """Handle everything, or until told to stop."""
    consumer, producer = consumer_of(job), producer_of(job, linger_ms=job.options.get("linger_ms", 2))
    redis, stopped = Redis.from_url(job.redis_url), stop_at_sigterm()
    claim, complete = redis.register_script(CLAIM), redis.register_script(COMPLETE)
    await consumer.start()
    await producer.start()
    try:
        while watch.records < job.records and not stopped.is_set():
            fetched = await consumer.getmany(timeout_ms=200, max_records=BATCH)
            records: list[Any] = [record for batch in fetched.values() for record in batch]
            if not records:
                continue
            watch.begin()
            keys = [f"{job.name}:{dict(record.headers)['ce_id'].decode()}" for record in records]
            granted = await claim(keys, [DAY_S])
            mine = [(key, record) for key, record, ours in zip(keys, records, granted, strict=True) if ours]
            sends = []
            for _, record in mine:
                result = answer(decode_order(record.value))
                key = result["customer_id"].encode()
                sends.append(await producer.send(job.results, encode_payment(result), key=key))
            await asyncio.gather(*sends)
            if mine:
                await complete([key for key, _ in mine], [DAY_S])
            await consumer.commit()
            watch.did(len(records), len(mine))
    finally:
        await consumer.stop()
        await producer.stop()
        await redis.aclose()
