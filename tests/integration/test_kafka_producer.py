"""The Kafka producer while the broker misbehaves: no false acknowledgement, no duplicate, never stuck.

Fault matrix rows 19 to 27 of docs/reliability.md that one broker can show.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import pytest
from kafka_topics import ensure

from broker_bridge.errors import DeliveryTimeoutError, RecordTooLargeError, TransportError
from broker_bridge.message import OutgoingRecord, Position, Record, TopicPartition
from broker_bridge.stack import LocalStack
from broker_bridge.transport.base import LogReader, TopicSpec
from broker_bridge.transport.kafka import KafkaProducer, KafkaSettings, KafkaTransport

DEADLINE_S = 30.0


@pytest.fixture
def transport(stack: LocalStack) -> KafkaTransport:
    return KafkaTransport(KafkaSettings(bootstrap=stack.bootstrap))


@pytest.fixture
async def topic(transport: KafkaTransport, unique: str) -> str:
    await ensure(transport, TopicSpec(unique, 2))
    return unique


@pytest.fixture
async def impatient(transport: KafkaTransport) -> AsyncIterator[KafkaProducer]:
    async with started(transport.producer(delivery_timeout_ms=2_000)) as producer:
        yield producer


@asynccontextmanager
async def started(producer: KafkaProducer) -> AsyncIterator[KafkaProducer]:
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@contextmanager
def frozen(stack: LocalStack) -> Iterator[None]:
    """The broker's process does not run inside; its sockets stay open."""
    broker = stack.kafka.brokers[0]
    broker.kill(signal.SIGSTOP)
    try:
        yield
    finally:
        broker.kill(signal.SIGCONT)


async def everything(transport: KafkaTransport, topic: str) -> list[Record]:
    reader = transport.reader()
    await reader.start()
    try:
        async with asyncio.timeout(DEADLINE_S):
            bounds = await bounds_of(reader, topic)
            start, end = ({tp: bound[side] for tp, bound in bounds.items()} for side in (0, 1))
            return [record async for batch in reader.read(start, end) for record in batch]
    finally:
        await reader.stop()


async def bounds_of(reader: LogReader, topic: str) -> dict[TopicPartition, tuple[int, int]]:
    """A broker that was frozen may be slow to answer at first."""
    deadline = time.monotonic() + DEADLINE_S / 2
    while True:
        try:
            return await reader.offsets([topic])
        except TransportError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


def numbered(topic: str, first: int, count: int) -> list[OutgoingRecord]:
    return [OutgoingRecord(topic, b"%06d" % number, key=b"%d" % (number % 7)) for number in range(first, first + count)]


def in_order_of_keys(records: Sequence[Record]) -> bool:
    last: dict[tuple[int, bytes | None], bytes] = {}
    for record in records:
        place = (record.partition, record.key)
        assert record.value is not None
        if last.get(place, b"") >= record.value:
            return False
        last[place] = record.value
    return True


async def test_a_frozen_broker_within_the_deadline_costs_only_time(
    stack: LocalStack, transport: KafkaTransport, topic: str
) -> None:
    """Acknowledgements come late; the client has retried on new connections meanwhile (request timeout 2 s)."""
    async with started(transport.producer(delivery_timeout_ms=6_000)) as producer:
        answers: list[Position | TransportError] = []
        for first in range(0, 500, 50):
            answers += await producer.send_batch(numbered(topic, first, 50))
        with frozen(stack):
            sending = asyncio.ensure_future(producer.send_batch(numbered(topic, 500, 50)))
            await asyncio.wait({sending}, timeout=3)
            assert not sending.done(), "nothing may be acknowledged by a broker that does not run"
        answers += await sending
        for first in range(550, 1_000, 50):
            answers += await producer.send_batch(numbered(topic, first, 50))
    assert [answer for answer in answers if not isinstance(answer, Position)] == []
    records = await everything(transport, topic)
    assert Counter(record.value for record in records) == {b"%06d" % number: 1 for number in range(1_000)}
    assert in_order_of_keys(records)
    assert {record.position for record in records} == set(answers)


async def test_a_missed_deadline_is_answered_in_time_and_the_next_call_works(
    stack: LocalStack, transport: KafkaTransport, topic: str, impatient: KafkaProducer
) -> None:
    await impatient.send_batch(numbered(topic, 0, 10))
    with frozen(stack):
        began = time.monotonic()
        answers = await impatient.send_batch(numbered(topic, 10, 10))
        assert 1.9 < time.monotonic() - began < 10
        assert {type(answer) for answer in answers} == {DeliveryTimeoutError}
        with pytest.raises(TransportError):  # a new producer cannot be had now: nothing was tried
            await impatient.send_batch(numbered(topic, 20, 10))
    later = await retried(impatient, numbered(topic, 30, 500))
    assert all(isinstance(answer, Position) for answer in later)
    counts = Counter(record.value for record in await everything(transport, topic))
    assert all(counts[b"%06d" % number] == 1 for number in [*range(10), *range(30, 530)])
    assert all(counts[b"%06d" % number] <= 1 for number in range(10, 20)), "unknown means there or not, never twice"
    assert all(counts[b"%06d" % number] == 0 for number in range(20, 30)), "what was not tried is not there"


async def test_calls_under_way_together_all_get_an_answer(
    stack: LocalStack, topic: str, impatient: KafkaProducer
) -> None:
    await impatient.send_batch(numbered(topic, 0, 10))
    with frozen(stack):
        calls = [asyncio.ensure_future(impatient.send_batch(numbered(topic, n * 10, 10))) for n in range(1, 9)]
        done, late = await asyncio.wait(calls, timeout=5)
        assert not late
    answers = [answer for call in done for answer in call.result()]
    assert len(answers) == 80
    # An acknowledgement that was on its way when the broker froze still counts; nothing else may be told.
    assert {type(answer) for answer in answers} <= {DeliveryTimeoutError, Position}


async def test_a_killed_broker_loses_nothing_acknowledged_and_doubles_nothing(
    stack: LocalStack, transport: KafkaTransport, topic: str
) -> None:
    async with started(transport.producer(delivery_timeout_ms=30_000)) as producer:
        stopped = asyncio.Event()
        answers: dict[bytes, Position | TransportError] = {}

        async def write() -> None:
            first = 0
            while not stopped.is_set():
                batch = numbered(topic, first, 20)
                first += 20
                for record, answer in zip(batch, await producer.send_batch(batch), strict=True):
                    assert record.value is not None
                    answers[record.value] = answer

        writing = asyncio.ensure_future(write())
        await until(lambda: len(answers) >= 200)
        broker = stack.kafka.brokers[0]
        broker.kill()
        await asyncio.to_thread(broker.restart)
        seen = len(answers)
        await until(lambda: len(answers) >= seen + 200)
        stopped.set()
        await writing
    counts = Counter(record.value for record in await everything(transport, topic))
    assert [value for value, count in counts.items() if count > 1] == []
    assert [value for value, answer in answers.items() if isinstance(answer, Position) and not counts[value]] == []


async def test_a_record_too_large_for_the_topic_is_answered_alone(transport: KafkaTransport, unique: str) -> None:
    """The client's own limit lets it pass, the topic's does not: the broker refuses the whole batch."""
    await ensure(transport, TopicSpec(unique, 1, settings={"max.message.bytes": "20000"}))
    async with started(transport.producer()) as producer:
        records = numbered(unique, 0, 30)
        records[11] = OutgoingRecord(unique, bytes(50_000))
        records[23] = OutgoingRecord(unique, bytes(30_000))
        answers = await producer.send_batch(records)
        assert [n for n, answer in enumerate(answers) if isinstance(answer, RecordTooLargeError)] == [11, 23]
        good = [n for n in range(30) if n not in (11, 23)]
        assert [answers[n] for n in good] == [Position(unique, 0, offset) for offset in range(28)]
        assert [record.value for record in await everything(transport, unique)] == [b"%06d" % n for n in good]
        assert await producer.send_batch(numbered(unique, 40, 1)) == [Position(unique, 0, 28)]


async def test_a_lost_sequence_costs_one_call_not_the_producer(transport: KafkaTransport, topic: str) -> None:
    """Fault 27: the broker answers OutOfOrderSequence, for which aiokafka has no way back."""
    async with started(transport.producer(delivery_timeout_ms=5_000)) as producer:
        await producer.send_batch([OutgoingRecord(topic, b"1", partition=0)])
        session = producer._session
        assert session is not None
        session.client._txn_manager.increment_sequence_number(TopicPartition(topic, 0), 17)
        [answer] = await producer.send_batch([OutgoingRecord(topic, b"2", partition=0)])
        assert isinstance(answer, TransportError)
        assert answer.retriable
        assert await producer.send_batch([OutgoingRecord(topic, b"3", partition=0)]) == [Position(topic, 0, 1)]
        assert [record.value for record in await everything(transport, topic)] == [b"1", b"3"]
        await until(lambda: session.dead)


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
async def test_every_codec_is_read_back(stack: LocalStack, topic: str, compression: str) -> None:
    settings = KafkaSettings.model_validate({"bootstrap": stack.bootstrap, "compression": compression})
    transport = KafkaTransport(settings)
    async with started(transport.producer()) as producer:
        await producer.send_batch(numbered(topic, 0, 300))
    assert sorted(record.value or b"" for record in await everything(transport, topic)) == [
        b"%06d" % number for number in range(300)
    ]


async def retried(producer: KafkaProducer, records: list[OutgoingRecord]) -> list[Position | TransportError]:
    """Send; while nothing could be tried, again."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return await producer.send_batch(records)
        except TransportError:
            assert time.monotonic() < deadline


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.02)
