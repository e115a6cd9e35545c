"""A record at a time on librdkafka: SET NX, handler, produce and flush, commit every hundred."""

from __future__ import annotations

from typing import Any

from redis import Redis

from benchmarks.job import DAY_S, Job, answer
from benchmarks.peers.avro import decode_order, encode_payment
from benchmarks.peers.clients import librdkafka_consumer, librdkafka_producer
from benchmarks.stopwatch import Stopwatch


def run(job: Job, watch: Stopwatch) -> None:
    """Handle everything, or stop after the limit."""
    consumer, producer, redis = librdkafka_consumer(job), librdkafka_producer(job), Redis.from_url(job.redis_url)
    try:
        while watch.records < job.records and not watch.over(job.limit_s):
            record: Any = consumer.poll(1.0)
            if record is None or record.error():
                continue
            watch.begin()
            event_id = dict(record.headers())["ce_id"].decode()
            mine = redis.set(f"{job.name}:{event_id}", b"1", nx=True, ex=DAY_S)
            if mine:
                result = answer(decode_order(record.value()))
                producer.produce(job.results, encode_payment(result), key=result["customer_id"].encode())
                producer.flush()
            if watch.records % 100 == 99:
                consumer.commit(asynchronous=False)
            watch.did(1, bool(mine))
        if watch.records % 100:  # there is nothing to commit otherwise, and librdkafka takes that for an error
            consumer.commit(asynchronous=False)
    finally:
        consumer.close()
