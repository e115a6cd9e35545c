"""What every ``BatchProducer`` must do."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from transport_bench import Bench, Check, placed, take

from broker_bridge.errors import RecordTooLargeError, TopicMissingError, TransportError
from broker_bridge.message import Header, OutgoingRecord, Position, TopicPartition

CHECKS: dict[str, Check] = {}
GOLDEN = Path(__file__).parents[2] / "schemas" / "golden"


def check(function: Check) -> Check:
    CHECKS[function.__name__] = function  # type: ignore[attr-defined]
    return function


@check
async def answers_positions_in_the_order_given(bench: Bench) -> None:
    topic = await bench.topic(3)
    producer = await bench.producer()
    records = [OutgoingRecord(topic, str(number).encode(), partition=number % 3) for number in range(30)]
    answers = placed(await producer.send_batch(records))
    assert answers == [Position(topic, number % 3, number // 3) for number in range(30)]


@check
async def keeps_every_byte(bench: Bench) -> None:
    topic = await bench.topic()
    headers: list[Header] = [("twice", b"1"), ("twice", b"2"), ("null", None), ("empty", b""), ("żółw", b"\x00\xff")]
    sent = [
        OutgoingRecord(topic, b"\x00\xff", key=b"k", headers=headers, timestamp_ms=1_790_000_000_123),
        OutgoingRecord(topic, None, key=b"tombstone"),
        OutgoingRecord(topic, b"", key=b""),
        OutgoingRecord(topic, b"no key"),
        OutgoingRecord(topic, None),
    ]
    placed(await (await bench.producer()).send_batch(sent))
    read = await take(await bench.consumer(topic), len(sent))
    assert [(record.key, record.value) for record in read] == [(record.key, record.value) for record in sent]
    assert list(read[0].headers) == headers
    assert read[0].timestamp_ms == 1_790_000_000_123
    assert list(read[1].headers) == []


@check
async def keys_go_where_the_golden_vectors_say(bench: Bench) -> None:
    vectors = [json.loads(file.read_text()) for file in sorted(GOLDEN.glob("*.json"))]
    assert vectors
    for count in (4, 12):
        topic = await bench.topic(count, f"of{count}")
        records = [OutgoingRecord(topic, b"", key=vector["key"].encode()) for vector in vectors]
        answers = placed(await (await bench.producer()).send_batch(records))
        assert [answer.partition for answer in answers] == [vector[f"partition_of_{count}"] for vector in vectors]


@check
async def one_bad_record_does_not_stop_the_others(bench: Bench) -> None:
    topic = await bench.topic(2)
    producer = await bench.producer()
    answers = await producer.send_batch(
        [
            OutgoingRecord(topic, b"first", partition=0),
            OutgoingRecord(f"{topic}.nowhere", b"no topic"),
            OutgoingRecord(topic, b"x" * 2_000_000, partition=0),
            OutgoingRecord(topic, b"no partition", partition=7),
            OutgoingRecord(topic, b"last", partition=0),
        ]
    )
    assert answers[0] == Position(topic, 0, 0)
    assert isinstance(answers[1], TopicMissingError)
    assert isinstance(answers[2], RecordTooLargeError)
    assert isinstance(answers[3], TopicMissingError)
    assert answers[4] == Position(topic, 0, 1)
    assert f"{topic}.nowhere" not in await (await bench.admin()).topics(), "writing must not create a topic"
    assert await producer.send_batch([OutgoingRecord(topic, b"goes on", partition=0)]) == [Position(topic, 0, 2)]


@check
async def order_holds_over_many_large_records(bench: Bench) -> None:
    """More than one request can carry."""
    topic = await bench.topic()
    values = [f"{number:04}".encode() + bytes(100_000) for number in range(30)]
    answers = placed(await (await bench.producer()).send_batch([OutgoingRecord(topic, value) for value in values]))
    assert [answer.offset for answer in answers] == list(range(30))
    read = await take(await bench.consumer(topic), 30)
    assert [record.value for record in read] == values


@check
async def order_holds_while_calls_overlap(bench: Bench) -> None:
    topic = await bench.topic(2)
    producer = await bench.producer()

    async def write(caller: int) -> None:
        for start in range(0, 100, 20):
            batch = [OutgoingRecord(topic, f"{caller}:{start + n}".encode(), key=b"%d" % caller) for n in range(20)]
            placed(await producer.send_batch(batch))

    await asyncio.gather(*(write(caller) for caller in range(8)))
    read = await take(await bench.consumer(topic), 800, max_records=500)
    by_caller: dict[bytes, list[int]] = {}
    for record in read:
        assert record.key is not None
        assert record.value is not None
        by_caller.setdefault(record.key, []).append(int(record.value.decode().split(":")[1]))
    assert len(read) == 800
    assert all(numbers == list(range(100)) for numbers in by_caller.values())


@check
async def nothing_to_send_is_fine(bench: Bench) -> None:
    assert await (await bench.producer()).send_batch([]) == []


@check
async def refuses_to_send_unless_started(bench: Bench) -> None:
    topic = await bench.topic()
    producer = bench.transport.producer()
    with pytest.raises(TransportError):
        await producer.send_batch([OutgoingRecord(topic, b"")])
    await bench.started(producer)
    placed(await producer.send_batch([OutgoingRecord(topic, b"")]))
    await producer.stop()
    await producer.stop()
    with pytest.raises(TransportError):
        await producer.send_batch([OutgoingRecord(topic, b"")])


@check
async def a_log_out_of_reach_is_a_transport_error(bench: Bench) -> None:
    lost = bench.lab.unreachable()
    for client in (
        lost.producer(delivery_timeout_ms=2_000),
        lost.reader(),
        lost.admin(),
        lost.consumer(group=bench.group, topics=["any"]),
    ):
        with pytest.raises(TransportError) as caught:
            await client.start()
        assert caught.value.retriable
        await client.stop()


@check
async def keyless_records_reach_some_partition(bench: Bench) -> None:
    topic = await bench.topic(4)
    producer = await bench.producer()
    used: set[TopicPartition] = set()
    for _ in range(8):
        [answer] = placed(await producer.send_batch([OutgoingRecord(topic, b"")]))
        used.add(TopicPartition(answer.topic, answer.partition))
    assert len(used) > 1, "they are spread over calls"
