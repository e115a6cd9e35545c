"""Three brokers: an acknowledgement means two copies, a lost leader costs nothing (fault matrix rows 19 and 20)."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from worker_process import Shop, eventually

from broker_bridge.errors import TransportError
from broker_bridge.message import OutgoingRecord, Position, Record
from broker_bridge.stack import LocalStack, StackSpec
from broker_bridge.transport.base import TopicSpec
from broker_bridge.transport.kafka import KafkaSettings, KafkaTransport

DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    spec = StackSpec(data_dir=tmp_path_factory.mktemp("three"), brokers=3, tie_to_parent=True, kafka_heap_mb=256)
    with LocalStack(spec) as running:
        yield running
    running.wipe()


@pytest.fixture
def transport(three: LocalStack) -> KafkaTransport:
    return KafkaTransport(KafkaSettings(bootstrap=three.bootstrap))


async def ensure(transport: KafkaTransport, *specs: TopicSpec) -> list[str]:
    """Create them; answer what is unsafe about them."""
    admin = transport.admin()
    await admin.start()
    await admin.ensure(specs)
    found = await admin.unsafe_settings([spec.name for spec in specs])
    await admin.stop()
    return found


async def everything(transport: KafkaTransport, topic: str) -> list[Record]:
    reader = transport.reader()
    await reader.start()
    async with asyncio.timeout(DEADLINE_S):
        bounds = await reader.offsets([topic])
        start, end = ({tp: bound[side] for tp, bound in bounds.items()} for side in (0, 1))
        records = [record async for batch in reader.read(start, end) for record in batch]
    await reader.stop()
    return records


async def leader_of(three: LocalStack, topic: str) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=three.bootstrap)
    await admin.start()
    try:
        [described] = await admin.describe_topics([topic])
        return int(described["partitions"][0]["leader"])
    finally:
        await admin.close()


async def test_settings_that_may_lose_acknowledged_records_are_named(transport: KafkaTransport, unique: str) -> None:
    found = await ensure(
        transport,
        TopicSpec(f"{unique}.sound", 1, replication=3, settings={"min.insync.replicas": "2"}),
        TopicSpec(f"{unique}.alone", 1, replication=3, settings={"min.insync.replicas": "1"}),
        TopicSpec(f"{unique}.dirty", 1, replication=3, settings={"unclean.leader.election.enable": "true"}),
    )
    said = {line.split(":")[0]: line for line in found if not line.startswith(f"{unique}.dirty: min")}
    assert said.keys() == {f"{unique}.alone", f"{unique}.dirty"}
    assert "min.insync.replicas is 1 with 3 replicas" in said[f"{unique}.alone"]
    assert "unclean.leader.election" in said[f"{unique}.dirty"]


@pytest.mark.soak
async def test_a_worker_refuses_a_topic_that_may_lose_records_unless_allowed_by_name(
    three: LocalStack, transport: KafkaTransport, redis_url: str, unique: str, tmp_path: Path
) -> None:
    """Invariant I26. The lanes, which the worker makes, are safe."""
    shop = Shop(tmp_path, three.bootstrap, redis_url, unique)
    await ensure(transport, TopicSpec(shop.topic, 2, replication=3, settings={"min.insync.replicas": "1"}))
    try:
        done = await asyncio.to_thread(shop.command, "worker", "run", "--replication", "3", expect=5)
        assert "error[unsafe_settings]" in done.stderr
        assert f"{shop.topic}: min.insync.replicas is 1 with 3 replicas" in done.stderr
        assert ".redrive: " not in done.stderr
        assert "allow_unsafe_topics = true" in done.stderr
        text = shop.config_path.read_text().replace("[kafka]\n", "[kafka]\nallow_unsafe_topics = true\n")
        shop.config_path.write_text(text)
        worker = shop.start_worker()
        await asyncio.to_thread(eventually, lambda: "partitions_assigned" in events_of(shop, worker))
        assert "config_warning" in events_of(shop, worker)
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 30) == 0
    finally:
        shop.close()


def events_of(shop: Shop, worker: subprocess.Popen[bytes]) -> set[str]:
    return {line["event"] for line in shop.log_of(worker)}


async def test_no_false_acknowledgement_while_two_of_three_are_frozen(
    three: LocalStack, transport: KafkaTransport, unique: str
) -> None:
    await ensure(transport, TopicSpec(unique, 1, replication=3, settings={"min.insync.replicas": "2"}))
    producer = transport.producer(delivery_timeout_ms=4_000)
    await producer.start()
    assert await producer.send_batch([OutgoingRecord(unique, b"before")]) == [Position(unique, 0, 0)]
    leader = await leader_of(three, unique)
    followers = [broker for broker in three.kafka.brokers if broker.node.node_id != leader]
    for broker in followers:
        broker.kill(signal.SIGSTOP)
    try:
        answers = await producer.send_batch([OutgoingRecord(unique, b"during %d" % n) for n in range(10)])
    finally:
        for broker in followers:
            broker.kill(signal.SIGCONT)
    assert [answer for answer in answers if isinstance(answer, Position)] == []
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                [after] = await producer.send_batch([OutgoingRecord(unique, b"after")])
            except TransportError:
                continue
            if isinstance(after, Position):
                break
    await producer.stop()
    counts = Counter(record.value for record in await everything(transport, unique))
    assert counts[b"before"] == 1
    assert counts[b"after"] >= 1
    assert all(counts[b"during %d" % n] <= 1 for n in range(10))


async def test_a_killed_leader_loses_nothing_acknowledged(
    three: LocalStack, transport: KafkaTransport, unique: str
) -> None:
    await ensure(transport, TopicSpec(unique, 1, replication=3, settings={"min.insync.replicas": "2"}))
    producer = transport.producer(delivery_timeout_ms=30_000)
    await producer.start()
    acknowledged: list[bytes] = []
    stopped = asyncio.Event()

    async def write() -> None:
        number = 0
        while not stopped.is_set():
            values = [b"%06d" % n for n in range(number, number + 10)]
            number += 10
            answers = await producer.send_batch([OutgoingRecord(unique, value) for value in values])
            acknowledged.extend(v for v, answer in zip(values, answers, strict=True) if isinstance(answer, Position))

    async def until(count: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while len(acknowledged) < count:
                await asyncio.sleep(0.05)

    writing = asyncio.ensure_future(write())
    await until(100)
    leader = await leader_of(three, unique)
    [victim] = [broker for broker in three.kafka.brokers if broker.node.node_id == leader]
    victim.kill()
    await until(len(acknowledged) + 300)
    stopped.set()
    await writing
    await producer.stop()
    await asyncio.to_thread(victim.restart)
    values = [record.value for record in await everything(transport, unique)]
    assert [value for value, count in Counter(values).items() if count > 1] == []
    assert set(acknowledged) <= set(values)
    assert values == sorted(values, key=lambda value: value or b""), "order holds across the election"
