"""What the memory transport adds to the contract suite: ordered faults, virtual time, slow members."""

from __future__ import annotations

import asyncio

import pytest

from broker_bridge.clock import SystemClock
from broker_bridge.errors import DeliveryTimeoutError, LeaseLostError, TransportError
from broker_bridge.message import OutgoingRecord, Position, TopicPartition
from broker_bridge.testing.virtual_time import LoopClock, run_virtual
from broker_bridge.transport.memory import MemoryLog, MemoryTransport

ONE, TWO = TopicPartition("t", 0), TopicPartition("t", 1)


@pytest.fixture
async def transport() -> MemoryTransport:
    made = MemoryTransport(SystemClock())
    made.log.create_topic("t", 2)
    made.log.create_topic("u", 1)
    return made


async def test_ordered_failures_hit_the_next_records_of_a_topic(transport: MemoryTransport) -> None:
    producer = transport.producer()
    await producer.start()
    refused = TransportError("the dead-letter topic is denied")
    transport.log.fail_next_sends(2, refused, topic="u")
    batch = [OutgoingRecord("t", b"1", partition=0), *(OutgoingRecord("u", b"%d" % n) for n in range(3))]
    answers = await producer.send_batch(batch)
    assert answers == [Position("t", 0, 0), refused, refused, Position("u", 0, 0)]


async def test_a_lost_acknowledgement_is_a_written_record(transport: MemoryTransport) -> None:
    producer = transport.producer()
    await producer.start()
    transport.log.lose_next_acks(1)
    answers = await producer.send_batch([OutgoingRecord("u", b"1"), OutgoingRecord("u", b"2")])
    assert isinstance(answers[0], DeliveryTimeoutError)
    assert answers[1] == Position("u", 0, 1)
    assert [record.value for record in transport.log.records("u")] == [b"1", b"2"]


async def test_nothing_works_while_the_log_is_switched_off(transport: MemoryTransport) -> None:
    producer, reader = transport.producer(), transport.reader()
    consumer = transport.consumer(group="g", topics=["t"])
    for client in (producer, reader, consumer):
        await client.start()
    transport.log.available = False
    with pytest.raises(TransportError):
        await producer.send_batch([OutgoingRecord("t", b"")])
    with pytest.raises(TransportError):
        await reader.offsets(["t"])
    with pytest.raises(TransportError):
        await consumer.commit({ONE: 0})
    with pytest.raises(TransportError):
        await consumer.poll(max_records=1, timeout_ms=20)
    transport.log.available = True
    await producer.send_batch([OutgoingRecord("t", b"back")])
    assert [record.value for record in await consumer.poll(max_records=1, timeout_ms=1_000)] == [b"back"]
    await consumer.stop()


async def test_transports_on_one_log_are_one_cluster() -> None:
    log = MemoryLog()
    log.create_topic("t", 2)
    workers = [MemoryTransport(SystemClock(), log=log).consumer(group="g", topics=["t"]) for _ in range(2)]
    for worker in workers:
        await worker.start()
    assert [worker.assignment() for worker in workers] == [{ONE}, {TWO}]
    for worker in workers:
        await worker.stop()


async def test_an_evicted_member_loses_everything_without_a_word(transport: MemoryTransport) -> None:
    told: list[str] = []

    async def on_revoked(partitions: frozenset[TopicPartition]) -> None:
        told.append("revoked")

    zombie = transport.consumer(group="g", topics=["t"], on_revoked=on_revoked)
    heir = transport.consumer(group="g", topics=["t"])
    await zombie.start()
    await heir.start()
    told.clear()
    await transport.evict("g", transport.members("g")[0])
    assert told == []
    assert heir.assignment() == {ONE, TWO}
    assert zombie.assignment(), "it still believes"
    with pytest.raises(LeaseLostError):
        await zombie.commit({ONE: 1})
    await zombie.poll(max_records=1, timeout_ms=10)
    assert told == ["revoked"]
    assert len(transport.members("g")) == 2
    await zombie.stop()
    await heir.stop()


async def test_a_second_consumer_of_a_static_id_pushes_the_first_out(transport: MemoryTransport) -> None:
    first = transport.consumer(group="g", topics=["t"], member="worker-1")
    second = transport.consumer(group="g", topics=["t"], member="worker-1")
    await first.start()
    await second.start()
    assert transport.members("g") == ["worker-1"]
    with pytest.raises(LeaseLostError):
        await first.commit({ONE: 1})
    with pytest.raises(LeaseLostError):
        await first.poll(max_records=1, timeout_ms=10)
    await second.commit({ONE: 1})
    await second.stop()


def test_an_hour_of_polling_takes_no_time() -> None:
    async def scenario() -> int:
        clock = LoopClock()
        transport = MemoryTransport(clock)
        transport.log.create_topic("t", 1)
        consumer = transport.consumer(group="g", topics=["t"])
        await consumer.start()
        began = clock.now_ms()
        assert await consumer.poll(max_records=1, timeout_ms=3_600_000) == []
        await consumer.stop()
        return clock.now_ms() - began

    assert run_virtual(scenario()) == 3_600_000


def test_who_does_not_come_back_from_on_revoked_is_left_behind() -> None:
    async def scenario() -> None:
        transport = MemoryTransport(LoopClock(), rebalance_timeout_ms=60_000)
        transport.log.create_topic("t", 2)
        gate = asyncio.Event()

        async def on_revoked(partitions: frozenset[TopicPartition]) -> None:
            await gate.wait()

        stuck = transport.consumer(group="g", topics=["t"], on_revoked=on_revoked)
        await stuck.start()
        heir = transport.consumer(group="g", topics=["t"])
        began = asyncio.get_running_loop().time()
        await heir.start()
        assert asyncio.get_running_loop().time() - began == pytest.approx(60)
        assert heir.assignment() == {ONE, TWO}
        with pytest.raises(LeaseLostError):
            await stuck.commit({ONE: 1})
        gate.set()
        await stuck.stop()
        await heir.stop()

    run_virtual(scenario())


def test_a_rebalance_survives_the_cancelling_of_who_caused_it() -> None:
    async def scenario() -> None:
        transport = MemoryTransport(LoopClock())
        transport.log.create_topic("t", 2)

        async def on_revoked(partitions: frozenset[TopicPartition]) -> None:
            await asyncio.sleep(5)

        old = transport.consumer(group="g", topics=["t"], on_revoked=on_revoked)
        await old.start()
        joining = asyncio.ensure_future(transport.consumer(group="g", topics=["t"]).start())
        await asyncio.sleep(1)
        joining.cancel()
        await asyncio.sleep(10)
        assert old.assignment() == {ONE, TWO}, "who gave up joining holds nothing"
        assert len(transport.members("g")) == 1
        await old.stop()

    run_virtual(scenario())
