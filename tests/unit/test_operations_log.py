"""The operations topic: recorded before an action goes on, read back in order, whatever else is in it."""

from __future__ import annotations

import dataclasses
import json

import pytest
from replay_world import START_MS, ManualClock

from broker_bridge.core.operation import Action, Operation, OperationFilter
from broker_bridge.errors import DeliveryTimeoutError, OperationUnrecordedError, TransportError
from broker_bridge.message import OutgoingRecord, Position, TopicPartition
from broker_bridge.replay.operations_log import Extent, OperationsLog, topic_problems
from broker_bridge.transport.base import TopicSpec
from broker_bridge.transport.memory import MemoryLog, MemoryTransport

TOPIC = "ops"


@pytest.fixture
def kafka() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
async def log(kafka: MemoryLog):
    transport = MemoryTransport(ManualClock(), log=kafka)
    reader = transport.reader()
    await reader.start()
    opened = OperationsLog(transport, reader, topic=TOPIC)
    yield opened
    await opened.stop()
    await reader.stop()


def operation(number: int = 0, action: str = Action.REPLAY_STARTED, **changes) -> Operation:
    made = Operation(
        id=f"op-{number}",
        at_ms=START_MS + number * 1_000,
        action=action,
        by="ada",
        host="till-1",
        why="cards work again",
        route="payments",
        group="payments",
        plan_id="a1b2c3d4",
        plan_sha256="ff" * 32,
        counts={"items": 42},
        details={"rate_per_s": 500.0, "canary": None},
    )
    return dataclasses.replace(made, **changes)


async def all_of(log: OperationsLog, wanted: OperationFilter | None = None) -> list[Operation]:
    return [found async for found in log.read(wanted)]


async def test_what_was_recorded_is_read_in_order(log: OperationsLog, kafka: MemoryLog) -> None:
    assert await all_of(log) == []
    assert await log.extent() is None, "reading creates no topic"
    done = [operation(n) for n in range(3)]
    for one in done:
        await log.record(one)
    assert kafka.partition_count(TOPIC) == 1
    assert await all_of(log) == done
    assert await log.extent() == Extent(0, 3)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (OperationFilter(route="refunds"), [3]),
        (OperationFilter(actions=(Action.REPLAY_ENDED, Action.LETTERS_DISCARDED)), [1, 3]),
        (OperationFilter(by="bob"), [2]),
        (OperationFilter(plan_id="a1b2"), [0, 1, 2]),
        (OperationFilter(since_ms=START_MS + 1_000, until_ms=START_MS + 3_000), [1, 2]),
        (OperationFilter(since_ms=START_MS + 9_000), []),
        (OperationFilter(since_ms=-1, by="ada", route="payments"), [0, 1]),
    ],
)
async def test_filters(log: OperationsLog, wanted: OperationFilter, found: list[int]) -> None:
    for one in (
        operation(0),
        operation(1, Action.REPLAY_ENDED),
        operation(2, by="bob"),
        operation(3, Action.LETTERS_DISCARDED, route="refunds", plan_id=""),
    ):
        await log.record(one)
    assert [one.id for one in await all_of(log, wanted)] == [f"op-{number}" for number in found]


async def test_foreign_and_damaged_records_are_told_and_passed_over(log: OperationsLog, kafka: MemoryLog) -> None:
    await log.record(operation(0))
    whole = kafka.records(TOPIC)[0].value or b""
    strange = [None, b"", b"hello", whole[: len(whole) // 2], b"\xff" + whole, b"[1]", b"[" * 60_000, b" " * 70_000]
    for value in strange:
        assert isinstance(kafka.append(OutgoingRecord(TOPIC, value), now_ms=START_MS), Position)
    await log.record(operation(1))
    told: dict[int, str] = {}
    found = [one async for one in log.read(unreadable=lambda position, why: told.update({position.offset: why}))]
    assert [one.id for one in found] == ["op-0", "op-1"]
    assert sorted(told) == list(range(1, 1 + len(strange)))
    assert told[1] == "has no value"
    assert "was cut" in told[4]
    assert "not an object" in told[6]
    assert "70000 bytes" in told[8]
    assert [one.id for one in await all_of(log)] == ["op-0", "op-1"], "nobody needs to listen"


async def test_nothing_goes_on_without_an_acknowledgement(log: OperationsLog, kafka: MemoryLog) -> None:
    kafka.create_topic(TOPIC, 1)
    kafka.fail_next_sends(1, topic=TOPIC, error=TransportError("not enough replicas"))
    with pytest.raises(OperationUnrecordedError, match=r"replay_started could not be recorded.*not enough replicas"):
        await log.record(operation(0))
    assert await all_of(log) == []
    kafka.lose_next_acks(1, topic=TOPIC)
    with pytest.raises(OperationUnrecordedError) as caught:
        await log.record(operation(1))
    assert isinstance(caught.value.__cause__, DeliveryTimeoutError)
    await log.record(operation(2))
    assert [one.id for one in await all_of(log)] == ["op-1", "op-2"], "an unknown end may be in the log"


async def test_no_broker_means_no_action(log: OperationsLog, kafka: MemoryLog) -> None:
    kafka.available = False
    with pytest.raises(OperationUnrecordedError, match=TOPIC) as caught:
        await log.record(operation())
    assert "leaves no trace" in caught.value.remedy
    kafka.available = True
    await log.record(operation())
    assert len(await all_of(log)) == 1


async def test_what_retention_took_is_not_an_error(log: OperationsLog, kafka: MemoryLog) -> None:
    for number in range(4):
        await log.record(operation(number))
    kafka.trim(TopicPartition(TOPIC, 0), before=2)
    assert await log.extent() == Extent(2, 4)
    assert [one.id for one in await all_of(log)] == ["op-2", "op-3"]


async def test_the_record_is_json_for_whoever_reads_it(log: OperationsLog, kafka: MemoryLog) -> None:
    await log.record(operation())
    (record,) = kafka.records(TOPIC)
    assert list(record.headers) == [("content-type", b"application/json")]
    assert record.timestamp_ms == START_MS
    found = json.loads(record.value or b"")
    assert (found["version"], found["action"], found["counts"]) == (1, "replay_started", {"items": 42})


async def test_the_end_of_an_action_stands_though_it_is_not_recorded(log: OperationsLog, kafka: MemoryLog) -> None:
    kafka.available = False
    with pytest.raises(OperationUnrecordedError, match="could not be recorded") as caught:
        await log.record(operation(0, Action.REPLAY_ENDED))
    assert "what was done stands" in caught.value.remedy


async def test_a_topic_that_would_lose_operations_is_told(log: OperationsLog, kafka: MemoryLog) -> None:
    admin = MemoryTransport(ManualClock(), log=kafka).admin()
    assert await topic_problems(admin, TOPIC) == [], "the first action creates it"
    await log.record(operation())
    assert await topic_problems(admin, TOPIC) == []
    await admin.ensure([TopicSpec("by-hand", 3, 1, {"cleanup.policy": "compact", "retention.bytes": "-1"})])
    assert await topic_problems(admin, "by-hand") == [
        "by-hand: has 3 partitions, but only partition 0 is used; make it with one",
        "by-hand: cleanup.policy is compact; set it to delete, or operations are lost",
        "by-hand: retention.ms is None; set it to -1, or operations are lost",
    ]
