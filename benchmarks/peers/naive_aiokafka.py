"""A record at a time, as most first versions are: SET NX, handler, send and wait, commit every hundred."""

from __future__ import annotations

from redis.asyncio import Redis

from benchmarks.job import DAY_S, Job, answer
from benchmarks.peers.avro import decode_order, encode_payment
from benchmarks.peers.clients import consumer_of, producer_of
from benchmarks.stopwatch import Stopwatch


async def run(job: Job, watch: Stopwatch) -> None:
    """Handle everything, or stop after the limit."""
    consumer, producer, redis = consumer_of(job), producer_of(job), Redis.from_url(job.redis_url)
    await consumer.start()
    await producer.start()
    try:
        while watch.records < job.records and not watch.over(job.limit_s):
            record = await consumer.getone()
            watch.begin()
            event_id = dict(record.headers)["ce_id"].decode()
            mine = await redis.set(f"{job.name}:{event_id}", b"1", nx=True, ex=DAY_S)
            if mine:
                result = answer(decode_order(record.value))
                await producer.send_and_wait(job.results, encode_payment(result), key=result["customer_id"].encode())
            if watch.records % 100 == 99:
                await consumer.commit()
            watch.did(1, bool(mine))
        await consumer.commit()
    finally:
        await consumer.stop()
        await producer.stop()
        await redis.aclose()
