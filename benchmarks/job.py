"""The job that every contender does, and the topics it is done on.

Read Avro orders (about 97 bytes, four partitions, 1 % of them sent twice), drop duplicates by idempotency key in
Redis, run a handler,
publish an Avro result for each, commit.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker_bridge import OutgoingRecord
from broker_bridge.bootstrap import open_transport
from broker_bridge.cloudevents import event_headers
from broker_bridge.config import BridgeConfig, config_from
from broker_bridge.contracts.codec import Codec
from broker_bridge.contracts.directory import SchemaDirectory
from broker_bridge.core.timestamps import rfc3339
from broker_bridge.message import TopicPartition
from broker_bridge.transport.base import TopicSpec

SCHEMAS = Path(__file__).parents[1] / "schemas"
PARTITIONS = 4
ORDER, PAYMENT = "shop.OrderPlaced", "shop.PaymentCaptured"
BATCH = 2_000


@dataclass(frozen=True)
class Job:
    """Where a contender works: the shared source, a group and a result topic of its own."""

    bootstrap: str
    redis_url: str
    source: str
    name: str
    records: int
    distinct: int

    @property
    def results(self) -> str:
        """The contender's own result topic."""
        return f"{self.name}.results"

    def config(self, **route: Any) -> BridgeConfig:
        """The bridge's settings for this job; with ``route`` keys, one route."""
        section = {
            "name": self.name,
            "topic": self.source,
            "contract": {"subject": ORDER},
            "output": {"topic": self.results, "subject": PAYMENT, "key": "customer_id"},
            "target": {"kind": "python", "handler": "benchmarks.peers.bridge:capture"},
            **route,
        }
        return config_from(
            {
                "bridge": {"schemas": str(SCHEMAS), "service": "bench"},
                "kafka": {"bootstrap": self.bootstrap},
                "redis": {"url": self.redis_url, "prefix": self.name},
                "health": {"listen": "off"},
                "logging": {"level": "warning", "format": "json"},
                "route": [section],
            }
        )


def order(number: int) -> dict[str, Any]:
    """One order of 97 bytes or so."""
    return {
        "order_id": f"order-{number:012d}-{number * 7919 % 100_000:05d}",
        "customer_id": f"customer-{number % 5_000:06d}",
        "amount_cents": 1_000 + number % 90_000,
        "currency": "EUR",
        "placed_at": 1_790_000_000_000 + number,
        "note": None,
        "lines": [{"sku": f"SKU-{number % 977:05d}", "quantity": 1}, {"sku": "GIFT-WRAP-RED", "quantity": 2}],
        "channel": "web",
    }


def answer(value: dict[str, Any]) -> dict[str, Any]:
    """What the handler makes of an order: the same pure work in every contender."""
    return {
        "payment_id": f"p-{value['order_id']}",
        "order_id": value["order_id"],
        "customer_id": value["customer_id"],
        "amount_cents": value["amount_cents"],
        "currency": value["currency"],
        "sequence": value["amount_cents"],
        "captured_at": 1_790_000_000_000,
    }


async def load(bootstrap: str, topic: str, count: int, *, duplicates: float = 0.01, seed: int = 1) -> int:
    """Fill the source once; the answer is how many records it holds, duplicates included."""
    config = config_from({"kafka": {"bootstrap": bootstrap}, "bridge": {"schemas": str(SCHEMAS)}})
    transport = open_transport(config)
    admin, producer = transport.admin(), transport.producer()
    await admin.start()
    await admin.ensure([TopicSpec(topic, PARTITIONS)])
    await admin.stop()
    await producer.start()
    codec = Codec(SchemaDirectory(SCHEMAS))
    records = _with_duplicates([_record(topic, number, codec) for number in range(count)], duplicates, seed)
    for start in range(0, len(records), BATCH):
        answers = await producer.send_batch(records[start : start + BATCH])
        failed = [found for found in answers if isinstance(found, Exception)]
        if failed:
            raise failed[0]
    await producer.stop()
    return len(records)


def _record(topic: str, number: int, codec: Codec) -> OutgoingRecord:
    value = order(number)
    headers = event_headers(
        event_id=value["order_id"],
        source="/bench",
        event_type=ORDER,
        time=rfc3339(value["placed_at"]),
        subject=value["customer_id"],
    )
    return OutgoingRecord(topic, codec.encode(ORDER, None, value), key=value["customer_id"].encode(), headers=headers)


def _with_duplicates(records: list[OutgoingRecord], share: float, seed: int) -> list[OutgoingRecord]:
    rng = random.Random(seed)
    result: list[OutgoingRecord] = []
    for index, record in enumerate(records):
        result.append(record)
        if rng.random() < share:
            result.append(records[max(0, index - rng.randint(0, 200))])
    return result


async def count(bootstrap: str, topic: str) -> int:
    """How many records the topic holds."""
    reader = open_transport(config_from({"kafka": {"bootstrap": bootstrap}})).reader()
    await reader.start()
    bounds: dict[TopicPartition, tuple[int, int]] = await reader.offsets([topic])
    await reader.stop()
    return sum(end - start for start, end in bounds.values())
