"""The best loop one writes by hand on librdkafka, stage by stage as ``batch_aiokafka``."""

from __future__ import annotations

from typing import Any

from redis import Redis

from benchmarks.job import BATCH, DAY_S, Job, answer
from benchmarks.peers.avro import decode_order, encode_payment
from benchmarks.peers.batch_aiokafka import CLAIM, COMPLETE
from benchmarks.peers.clients import librdkafka_consumer, librdkafka_producer
from benchmarks.stopwatch import Stopwatch


def run(job: Job, watch: Stopwatch) -> None:
    """Handle everything."""
    consumer, producer = librdkafka_consumer(job), librdkafka_producer(job, linger_ms=2)
    redis = Redis.from_url(job.redis_url)
    claim, complete = redis.register_script(CLAIM), redis.register_script(COMPLETE)
    try:
        while watch.records < job.records:
            records: list[Any] = [r for r in consumer.consume(BATCH, timeout=0.2) if not r.error()]
            if not records:
                continue
            watch.begin()
            keys = [f"{job.name}:{dict(record.headers())['ce_id'].decode()}" for record in records]
            granted: Any = claim(keys, [DAY_S])
            mine = [(key, record) for key, record, ours in zip(keys, records, granted, strict=True) if ours]
            for _, record in mine:
                result = answer(decode_order(record.value()))
                producer.produce(job.results, encode_payment(result), key=result["customer_id"].encode())
            producer.flush()
            if mine:
                complete([key for key, _ in mine], [DAY_S])
            consumer.commit(asynchronous=False)
            watch.did(len(records), len(mine))
    finally:
        consumer.close()
