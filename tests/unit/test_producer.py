"""The embeddable producer on the memory transport, with the real contracts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from broker_bridge.clock import SystemClock
from broker_bridge.contracts.codec import Codec
from broker_bridge.contracts.directory import SchemaDirectory
from broker_bridge.errors import (
    DeliveryTimeoutError,
    HeadersInvalidError,
    SchemaUnknownError,
    TopicMissingError,
    TransportError,
    UsageError,
    ValueInvalidError,
)
from broker_bridge.message import Position
from broker_bridge.producer import Event, Producer
from broker_bridge.transport.memory import MemoryTransport

SCHEMAS = Path(__file__).parents[2] / "schemas"
ORDER = json.loads((SCHEMAS / "golden" / "order-placed-v1.json").read_text())
CONTRACT = "shop.OrderPlaced"


class FixedClock(SystemClock):
    def now_ms(self) -> int:
        return 1_790_000_000_007


@pytest.fixture
async def transport() -> MemoryTransport:
    made = MemoryTransport(FixedClock())
    made.log.create_topic("orders.placed", 4)
    return made


@pytest.fixture
def producer(transport: MemoryTransport) -> Producer:
    codec = Codec(SchemaDirectory(SCHEMAS))
    return Producer(transport, codec, source="/shop/orders", clock=FixedClock(), new_id=lambda: "new-id")


def event(**changes: Any) -> Event:
    fields: dict[str, Any] = {"topic": "orders.placed", "value": ORDER["value"], "contract": CONTRACT, "version": 1}
    return Event(**(fields | {"key": ORDER["key"]} | changes))


async def test_a_golden_event_is_written_byte_for_byte(transport: MemoryTransport, producer: Producer) -> None:
    given = dict(ORDER["headers"])
    async with producer:
        position = await producer.send(
            "orders.placed",
            ORDER["value"],
            contract=CONTRACT,
            version=1,
            key=ORDER["key"],
            event_id=given["ce_id"],
            time_ms=1_790_000_000_000,
            traceparent=given["traceparent"],
        )
    assert position == Position("orders.placed", ORDER["partition_of_4"], 0)
    [record] = transport.log.records("orders.placed")
    assert record.value is not None
    assert record.value.hex() == ORDER["hex"]
    assert record.key == ORDER["key"].encode()
    assert list(record.headers) == [(name, value.encode()) for name, value in ORDER["headers"]]


async def test_what_is_not_given_is_filled_in(transport: MemoryTransport, producer: Producer) -> None:
    async with producer:
        await producer.send_batch([event(), event(key=b"\xff", event_id="mine"), event(key=None), event(key="")])
    records = {dict(r.headers).get("ce_subject"): r for r in transport.log.records("orders.placed")}
    with_key = dict(records[b"customer-17"].headers)
    assert with_key["ce_id"] == b"new-id"
    assert with_key["ce_time"] == b"2026-09-21T14:13:20.007Z"
    traces = [dict(record.headers)["traceparent"] for record in transport.log.records("orders.placed")]
    assert len(set(traces)) == 4, "each event without a trace starts one"
    assert set(records) == {b"customer-17", None}, "no subject is made of a binary, missing or empty key"


async def test_a_tombstone(transport: MemoryTransport, producer: Producer) -> None:
    async with producer:
        await producer.send("orders.placed", None, contract=CONTRACT, key="customer-17")
    [record] = transport.log.records("orders.placed")
    assert record.value is None
    assert dict(record.headers)["ce_type"] == CONTRACT.encode()


async def test_invalid_events_are_answered_and_the_others_sent(transport: MemoryTransport, producer: Producer) -> None:
    async with producer:
        answers = await producer.send_batch(
            [
                event(event_id="first"),
                event(value={"order_id": 7}),
                event(contract="shop.Nothing"),
                event(version=99),
                event(headers=[("bridge-hops", b"1")]),
                event(headers=[("x", b"a\r\nb")]),
                event(event_id=""),
                event(key=7),
                event(key="\ud800"),
                event(time_ms=10**18),
                event(topic="nowhere"),
                event(event_id="last", partition=2),
            ]
        )
    kinds = [type(answer) for answer in answers]
    assert kinds == [
        Position,
        ValueInvalidError,
        SchemaUnknownError,
        SchemaUnknownError,
        HeadersInvalidError,
        HeadersInvalidError,
        HeadersInvalidError,
        UsageError,
        UsageError,
        HeadersInvalidError,
        TopicMissingError,
        Position,
    ]
    assert [dict(r.headers)["ce_id"] for r in transport.log.records("orders.placed")] == [b"first", b"last"]


async def test_a_log_out_of_reach_answers_every_event(transport: MemoryTransport, producer: Producer) -> None:
    async with producer:
        transport.log.available = False
        answers = await producer.send_batch([event(), event(value={}), event()])
        assert [type(answer) for answer in answers] == [TransportError, ValueInvalidError, TransportError]
        with pytest.raises(TransportError):
            await producer.send("orders.placed", ORDER["value"], contract=CONTRACT)
        transport.log.available = True
        assert isinstance(await producer.send("orders.placed", ORDER["value"], contract=CONTRACT), Position)


async def test_a_lost_acknowledgement_is_raised_and_the_event_is_there(
    transport: MemoryTransport, producer: Producer
) -> None:
    async with producer:
        transport.log.lose_next_acks(1)
        with pytest.raises(DeliveryTimeoutError):
            await producer.send("orders.placed", ORDER["value"], contract=CONTRACT, key="k")
    assert len(transport.log.records("orders.placed")) == 1
