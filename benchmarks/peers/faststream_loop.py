"""FastStream as its documentation shows it, a handler a record, with SET NX in front and the answer published.

``NACK_ON_ERROR`` is its policy that commits after the handler; the one it has by default commits before and loses what
a crash interrupts.
"""

from __future__ import annotations

import asyncio
from typing import Any

from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage
from redis.asyncio import Redis

from benchmarks.job import DAY_S, Job, answer
from benchmarks.peers.avro import decode_order, encode_payment
from benchmarks.stopwatch import Stopwatch


async def run(job: Job, watch: Stopwatch) -> None:
    """Handle everything, or stop after the limit."""
    broker = KafkaBroker(job.bootstrap, acks="all", enable_idempotence=True, logger=None)
    redis, finished = Redis.from_url(job.redis_url), asyncio.Event()

    async def raw(message: Any) -> bytes:
        return bytes(message.body)

    @broker.subscriber(
        job.source,
        group_id=job.name,
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.NACK_ON_ERROR,
        decoder=raw,
    )
    async def handle(body: bytes, message: KafkaMessage) -> None:
        watch.begin()
        if finished.is_set():
            await asyncio.Event().wait()
        mine = await redis.set(f"{job.name}:{message.headers['ce_id']}", b"1", nx=True, ex=DAY_S)
        if mine:
            result = answer(decode_order(body))
            await broker.publish(encode_payment(result), job.results, key=result["customer_id"].encode())
        watch.did(1, bool(mine))
        if watch.records >= job.records or watch.over(job.limit_s):
            finished.set()

    await broker.start()
    await finished.wait()
    await broker.stop()
    await redis.aclose()
