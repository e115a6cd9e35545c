"""The Kafka consumer under faults that only a real group coordinator can show."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from kafka_topics import ensure

from broker_bridge.errors import LeaseLostError, OffsetOutOfRangeError, TransportError
from broker_bridge.message import OutgoingRecord, TopicPartition
from broker_bridge.stack import LocalStack
from broker_bridge.transport.base import TopicSpec
from broker_bridge.transport.kafka import KafkaConsumer, KafkaSettings, KafkaTransport

DEADLINE_S = 40.0
FAST = {"session_timeout_ms": 6_000, "heartbeat_interval_ms": 200, "rebalance_timeout_ms": 8_000}


@pytest.fixture
def settings(stack: LocalStack) -> KafkaSettings:
    return KafkaSettings.model_validate({"bootstrap": stack.bootstrap, "request_timeout_ms": 4_000} | FAST)


@pytest.fixture
def transport(settings: KafkaSettings) -> KafkaTransport:
    return KafkaTransport(settings)


@pytest.fixture
async def tp(transport: KafkaTransport, unique: str) -> TopicPartition:
    """A topic of one partition with ten records."""
    await ensure(transport, TopicSpec(unique, 1))
    producer = transport.producer()
    try:
        await producer.start()
        await producer.send_batch([OutgoingRecord(unique, b"%d" % number) for number in range(10)])
    finally:
        await producer.stop()
    return TopicPartition(unique, 0)


Join = Callable[..., Awaitable[KafkaConsumer]]


@pytest.fixture
async def join(transport: KafkaTransport, tp: TopicPartition) -> AsyncIterator[Join]:
    """Start a consumer of the test's group, of its topic if no other is named. All are stopped whatever the test did:
    connections that outlive their loop would fail another test."""
    async with AsyncExitStack() as joined:

        async def start(through: KafkaTransport = transport, **options: Any) -> KafkaConsumer:
            consumer = through.consumer(**{"group": tp.topic, "topics": [tp.topic]} | options)
            joined.push_async_callback(consumer.stop)  # also of one that could not start; a second stop is none
            await consumer.start()
            return consumer

        yield start


async def take(consumer: KafkaConsumer, count: int) -> list[int]:
    offsets: list[int] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(offsets) < count:
            offsets += [record.offset for record in await consumer.poll(max_records=100, timeout_ms=200)]
    return offsets


async def poll_until(consumer: KafkaConsumer, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await consumer.poll(max_records=100, timeout_ms=100)


MEMBER = textwrap.dedent(
    """
    import asyncio, sys
    from broker_bridge.message import TopicPartition
    from broker_bridge.transport.kafka import KafkaSettings, KafkaTransport

    async def main(settings, topic):
        tp = TopicPartition(topic, 0)
        transport = KafkaTransport(KafkaSettings.model_validate_json(settings))
        consumer = transport.consumer(group=topic, topics=[topic])
        await consumer.start()
        records = []
        while len(records) < 10:
            records += await consumer.poll(max_records=100, timeout_ms=200)
        await consumer.commit({tp: 2})
        print("holds", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        try:
            await consumer.commit({tp: 3})
        except Exception as error:
            print(type(error).__name__, flush=True)
        else:
            print("committed", flush=True)

    asyncio.run(main(*sys.argv[1:]))
    """
)


async def test_a_worker_that_was_frozen_past_its_session_cannot_commit(
    settings: KafkaSettings, join: Join, tp: TopicPartition
) -> None:
    """Fault 10: SIGSTOP longer than the session, then SIGCONT. Another worker has the partition and has moved on."""
    member = subprocess.Popen(  # noqa: ASYNC220 - only its pipes are waited for, in threads
        [sys.executable, "-c", MEMBER, settings.model_dump_json(), tp.topic],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert member.stdin is not None
    assert member.stdout is not None
    try:
        assert await asyncio.to_thread(member.stdout.readline) == "holds\n"
        member.send_signal(signal.SIGSTOP)
        heir = await join()
        assert await take(heir, 8) == list(range(2, 10))
        await heir.commit({tp: 9})
        member.stdin.write("go on\n")
        member.stdin.flush()
        member.send_signal(signal.SIGCONT)
        assert await asyncio.to_thread(member.stdout.readline) == "LeaseLostError\n"
        assert await heir.committed(frozenset({tp})) == {tp: 9}
    finally:
        member.kill()
        member.communicate()


async def test_a_worker_that_stopped_polling_gives_its_partitions_away_even_after_a_failed_poll(
    settings: KafkaSettings, transport: KafkaTransport, join: Join, tp: TopicPartition, unique: str
) -> None:
    """aiokafka takes a consumer whose poll once raised for busy for ever; such a worker would hold its partitions."""
    other = TopicPartition(f"{unique}.b", 0)
    admin = transport.admin()
    await admin.start()
    await admin.ensure([TopicSpec(other.topic, 1)])
    await admin.stop()
    both = [tp.topic, other.topic]
    first = await join(topics=both)
    await take(first, 10)
    await first.commit({tp: 99})
    await first.stop()
    # It alone must poll often: a slow machine may not put the others out of the group.
    hurried = KafkaTransport(settings.model_copy(update={"max_poll_interval_ms": 1_500}))
    silent = await join(hurried, topics=both)
    with pytest.raises(OffsetOutOfRangeError, match="position 99"):
        await take(silent, 1)
    heir = await join(topics=[other.topic])  # wants only what the silent one is not reading
    async with asyncio.timeout(DEADLINE_S):
        while await members(settings, tp.topic) != 1 or heir.assignment() != {other}:
            await heir.poll(max_records=1, timeout_ms=100)


async def members(settings: KafkaSettings, group: str) -> int:
    """How many members the broker counts in the group."""
    admin = AIOKafkaAdminClient(**settings.connection_options())
    try:
        await admin.start()
        [response] = await admin.describe_consumer_groups([group])
        return len(response.to_object()["groups"][0]["members"])
    finally:
        await admin.close()


async def test_a_frozen_broker_lets_poll_and_commit_answer_in_time(
    stack: LocalStack, join: Join, tp: TopicPartition
) -> None:
    consumer = await join()
    await take(consumer, 10)
    broker = stack.kafka.brokers[0]
    broker.kill(signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert await consumer.poll(max_records=10, timeout_ms=300) == []
        assert time.monotonic() - began < 3
        with pytest.raises(TransportError) as caught:
            await consumer.commit({tp: 5})
        assert not isinstance(caught.value, LeaseLostError)
        assert time.monotonic() - began < 15
    finally:
        broker.kill(signal.SIGCONT)
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await consumer.commit({tp: 6})
                break
            except TransportError:  # the session may have ended meanwhile: then it joins anew
                await consumer.poll(max_records=10, timeout_ms=200)
    assert await consumer.committed(frozenset({tp})) == {tp: 6}


async def test_no_commit_slips_through_between_two_generations(join: Join, tp: TopicPartition) -> None:
    """A commit storm on the old owner while the partition moves: none is accepted after the new owner's first."""
    old = await join()
    await take(old, 10)
    accepted: list[float] = []
    refused: list[float] = []
    stopped = asyncio.Event()

    async def storm() -> None:
        while not stopped.is_set():
            try:
                await old.commit({tp: 3})
                accepted.append(time.monotonic())
            except LeaseLostError:
                refused.append(time.monotonic())
                await old.poll(max_records=1, timeout_ms=5)
            await asyncio.sleep(0)

    others: list[KafkaConsumer] = []
    async with asyncio.TaskGroup() as storms:
        storms.create_task(storm())
        try:
            for _ in range(3):
                others.append(await join())
                if others[-1].assignment():
                    await others[-1].commit({tp: 8})
            stored = await others[0].committed(frozenset({tp}))
            holder = [consumer for consumer in (old, *others) if consumer.assignment()]
        finally:
            stopped.set()
    assert accepted
    assert len(holder) == 1
    if holder[0] is not old:
        assert refused
        assert stored == {tp: 8}, "the old owner moved the new owner's offset back"


async def test_a_static_member_comes_back_without_a_rebalance(join: Join, tp: TopicPartition) -> None:
    calls: list[str] = []

    async def on_revoked(partitions: frozenset[TopicPartition]) -> None:
        calls.append("other revoked")

    other = await join(on_revoked=on_revoked, member="other")
    worker = await join(member="worker")
    calls.clear()
    await worker.stop()
    again = await join(member="worker")
    await poll_until(other, lambda: True)
    assert len(other.assignment() | again.assignment()) == 1
