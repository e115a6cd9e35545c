"""The clients of the hand-written loops, set up to lose nothing: earliest, no autocommit, acks=all, idempotence."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from benchmarks.job import PARTITIONS, Job


def consumer_of(job: Job) -> AIOKafkaConsumer:
    """A member of the job's own group."""
    return AIOKafkaConsumer(
        job.source,
        bootstrap_servers=job.bootstrap,
        group_id=job.name,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )


async def reader_of(job: Job, topic: str) -> AIOKafkaConsumer:
    """Outside any group, at the beginning of every partition; started."""
    consumer = AIOKafkaConsumer(bootstrap_servers=job.bootstrap, enable_auto_commit=False)
    await consumer.start()
    consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
    await consumer.seek_to_beginning()
    return consumer


def producer_of(job: Job, *, linger_ms: int = 0) -> AIOKafkaProducer:
    """Acknowledged by all, without doubles."""
    return AIOKafkaProducer(bootstrap_servers=job.bootstrap, acks="all", enable_idempotence=True, linger_ms=linger_ms)


def librdkafka_consumer(job: Job) -> Any:
    """The same on librdkafka, subscribed."""
    from confluent_kafka import Consumer

    made = Consumer(
        {
            "bootstrap.servers": job.bootstrap,
            "group.id": job.name,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    made.subscribe([job.source])
    return made


def librdkafka_producer(job: Job, *, linger_ms: int = 0) -> Any:
    """The same on librdkafka; murmur2 puts a key where every other client puts it."""
    from confluent_kafka import Producer

    return Producer(
        {
            "bootstrap.servers": job.bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": linger_ms,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 1_000_000,
        }
    )


def stop_at_sigterm() -> asyncio.Event:
    """Set when the process is asked to stop."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    return asked
