"""The job that every contender does, and the topics it is done on.

Read Avro orders (about 97 bytes, four partitions, 1 % of them sent twice), drop duplicates by idempotency key in Redis,
run a handler, publish an Avro result for each, commit.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker_bridge import OutgoingRecord
from broker_bridge.cloudevents import event_headers
from broker_bridge.config import BridgeConfig, config_from
from broker_bridge.contracts.codec import Codec
from broker_bridge.contracts.directory import SchemaDirectory
from broker_bridge.core.timestamps import rfc3339

SCHEMAS = Path(__file__).parents[1] / "schemas"
PARTITIONS = 4
ORDER, PAYMENT = "shop.OrderPlaced", "shop.PaymentCaptured"
BATCH = 2_000
DAY_S = 86_400
PAYMENT_FRAME = b"\0" + struct.pack(">i", 3)
"""What stands before each result: the framing's magic byte and the id of its schema."""


@dataclass(frozen=True)
class Job:
    """Where a contender works: the shared source, a group and a result topic of its own.

    ``records`` are in the source; a slow contender stops after ``limit_s``. ``options`` are the scenario's.
    """

    bootstrap: str
    redis_url: str
    source: str
    name: str
    records: int
    limit_s: float = 3_600.0
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def results(self) -> str:
        """The contender's own result topic."""
        return f"{self.name}.results"

    def config(self, **route: Any) -> BridgeConfig:
        """The bridge's settings for this job; with ``route`` keys, one route."""
        return config_from({**self.servers(), "route": [self.route_section(**route)]})

    def route_section(self, **route: Any) -> dict[str, Any]:
        """The one route, with ``route`` keys over it; None takes a key away."""
        section = {
            "name": self.name,
            "topic": self.source,
            "contract": {"subject": ORDER},
            "output": {"topic": self.results, "subject": PAYMENT, "key": "customer_id"},
            "target": {"kind": "python", "handler": "benchmarks.peers.bridge:capture"},
            **route,
        }
        return {key: value for key, value in section.items() if value is not None}

    def servers(self) -> dict[str, Any]:
        """The sections about servers, logs and health. The short session lets a second worker in quickly."""
        return {
            "bridge": {"schemas": str(SCHEMAS), "service": "bench"},
            "kafka": {"bootstrap": self.bootstrap, "session_timeout": "3s"},
            "redis": {"url": self.redis_url, "prefix": self.name},
            "health": {"listen": "off"},
            "logging": {"level": "warning", "format": "json"},
        }

    def as_json(self) -> str:
        """For the command line of a contender's process."""
        return json.dumps(self.__dict__)


@dataclass(frozen=True)
class Source:
    """A topic to be filled: ``hot_share`` of the orders are one customer's."""

    topic: str
    distinct: int
    partitions: int = PARTITIONS
    duplicates: float = 0.01
    hot_share: float = 0.0

    def orders(self) -> Iterator[dict[str, Any]]:
        """Each distinct order once."""
        for number in range(self.distinct):
            yield order(number, hot=number % 100 < self.hot_share * 100)

    def records(self, codec: Codec) -> Iterator[OutgoingRecord]:
        """What is written: a duplicate is the same bytes again, at most 200 orders later. The same in every run."""
        rng = random.Random(1)
        recent: list[OutgoingRecord] = []
        for value in self.orders():
            recent.append(_record(self.topic, value, codec))
            yield recent[-1]
            if rng.random() < self.duplicates:
                yield recent[max(0, len(recent) - 1 - rng.randint(0, 200))]
            if len(recent) > 2_000:
                del recent[:1_000]

    def expected(self, codec: Codec) -> frozenset[int]:
        """Every result there has to be, as the hash of its bytes."""
        return frozenset(hash(codec.encode(PAYMENT, 1, answer(value))) for value in self.orders())


def order(number: int, *, hot: bool = False) -> dict[str, Any]:
    """One order of 97 bytes or so."""
    return {
        "order_id": f"order-{number:012d}-{number * 7919 % 100_000:05d}",
        "customer_id": "customer-of-most" if hot else f"customer-{number % 5_000:06d}",
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


def open_contracts() -> Codec:
    """The contracts of the shop."""
    return Codec(SchemaDirectory(SCHEMAS))


def _record(topic: str, value: dict[str, Any], codec: Codec) -> OutgoingRecord:
    headers = event_headers(
        event_id=value["order_id"],
        source="/bench",
        event_type=ORDER,
        time=rfc3339(value["placed_at"]),
        subject=value["customer_id"],
    )
    return OutgoingRecord(topic, codec.encode(ORDER, None, value), key=value["customer_id"].encode(), headers=headers)
