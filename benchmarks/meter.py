"""End-to-end latency from outside: orders at a steady rate in, results out, both seen by one process and one clock.

The moment of sending travels in the order (``amount_cents``, microseconds of the monotonic clock) and comes back in the
result. The pace does not wait for answers, so a slow contender cannot slow down what it is measured by.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from benchmarks.job import ORDER, PARTITIONS, Job, open_contracts, order

TICK_S = 0.001
PATIENCE_S = 30.0
"""How long results may be late, and a contender may take to start."""


@dataclass
class Meter:
    """Sends at ``rate`` for ``warm_s`` without counting and for ``for_s`` with."""

    job: Job
    rate: float
    warm_s: float
    for_s: float
    sent: list[str] = field(default_factory=list)
    came: list[str] = field(default_factory=list)
    waits_ms: list[float] = field(default_factory=list)
    _counted_from: int = 0
    _caught_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Until every result has come, or for as long as patience lasts; then ``sent`` and ``came`` differ."""
        producer = AIOKafkaProducer(bootstrap_servers=self.job.bootstrap, acks="all", enable_idempotence=True)
        consumer = AIOKafkaConsumer(bootstrap_servers=self.job.bootstrap, enable_auto_commit=False)
        await producer.start()
        await consumer.start()
        consumer.assign([TopicPartition(self.job.results, number) for number in range(PARTITIONS)])
        await consumer.seek_to_beginning()
        reading = asyncio.create_task(self._read(consumer))
        try:
            await self._send(producer, 1, 1.0)
            await self._all_came()
            await self._send(producer, int(self.rate * self.warm_s), self.rate)
            self._counted_from = _now_us()
            await self._send(producer, int(self.rate * self.for_s), self.rate)
            await self._all_came()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await consumer.stop()
            await producer.stop()

    async def _send(self, producer: AIOKafkaProducer, count: int, rate: float) -> None:
        contracts = open_contracts()
        began, first = time.monotonic(), len(self.sent)
        while (done := len(self.sent) - first) < count:
            due = min(count, int((time.monotonic() - began) * rate) + 1)
            for _ in range(due - done):
                value: dict[str, Any] = order(len(self.sent))
                self.sent.append(value["order_id"])
                value["amount_cents"] = _now_us()
                headers = [
                    ("ce_specversion", b"1.0"),
                    ("ce_id", value["order_id"].encode()),
                    ("ce_source", b"/bench"),
                    ("ce_type", ORDER.encode()),
                ]
                body = contracts.encode(ORDER, None, value)
                await producer.send(self.job.source, body, key=value["customer_id"].encode(), headers=headers)
            await asyncio.sleep(TICK_S)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        contracts = open_contracts()
        while True:
            fetched = await consumer.getmany(timeout_ms=100)
            now_us = _now_us()
            for record in (record for records in fetched.values() for record in records):
                result = contracts.decode(record.value).value
                self.came.append(result["order_id"])
                if self._counted_from and result["amount_cents"] >= self._counted_from:
                    self.waits_ms.append((now_us - result["amount_cents"]) / 1000)
            if len(self.came) >= len(self.sent):
                self._caught_up.set()

    async def _all_came(self) -> None:
        self._caught_up.clear()
        if len(self.came) < len(self.sent):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._caught_up.wait(), PATIENCE_S)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not exceeded by ``share`` of all."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-len(ordered) * share // 1) - 1))]


def _now_us() -> int:
    return time.monotonic_ns() // 1000
