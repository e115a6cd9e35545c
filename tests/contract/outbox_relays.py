"""Relays to be checked: the real one, and relays and writers that are wrong in ways people get them wrong."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import psycopg

from broker_bridge import OutgoingRecord, Position
from broker_bridge.clock import SystemClock
from broker_bridge.database.session import open_database
from broker_bridge.errors import TransportError
from broker_bridge.observability.logging import get_logger
from broker_bridge.outbox import OutboxRelay, RelaySettings
from broker_bridge.outbox.row import OutboxRow
from broker_bridge.transport.base import BatchProducer
from broker_bridge.transport.memory import MemoryTransport

COLUMNS = "id, topic, record_key, record_value, headers, partition_number, event_id, size_bytes"


class SlowProducer:
    """Takes a while before and after the log has the records, so that relays overlap and crashes fall in between."""

    def __init__(self, transport: MemoryTransport, rng: random.Random) -> None:
        self._inner: BatchProducer = transport.producer()
        self._rng = rng

    async def start(self) -> None:
        await self._inner.start()

    async def send_batch(self, records: Sequence[OutgoingRecord]) -> list[Position | TransportError]:
        await asyncio.sleep(self._rng.random() * 0.03)
        answers = await self._inner.send_batch(records)
        await asyncio.sleep(self._rng.random() * 0.03)
        return answers

    async def stop(self) -> None:
        await self._inner.stop()


def real_relay(url: str, transport: MemoryTransport, seed: int, **settings: Any) -> OutboxRelay:
    """The relay as shipped, in small batches and with a short lease."""
    rng = random.Random(seed)
    chosen = {"batch_rows": 20, "buckets": 4, "lease_ms": 600, "poll_ms": 10, **settings}
    return OutboxRelay(
        open_database(url),
        SlowProducer(transport, rng),
        owner=f"relay-{seed}",
        clock=SystemClock(),
        log=get_logger("test"),
        settings=RelaySettings(**chosen),
        rng=rng,
    )


class HighWaterMarkRelay:
    """Remembers the last id it has seen and reads on from there: an id that commits later than a larger one is lost."""

    def __init__(self, url: str, transport: MemoryTransport, seed: int) -> None:
        self._url = url
        self._producer = SlowProducer(transport, random.Random(seed))
        self._mark = 0

    async def run(self) -> None:
        await self._producer.start()
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
            while True:
                sql = f"SELECT {COLUMNS} FROM bridge_outbox WHERE id > %s ORDER BY id LIMIT 20"
                rows = [OutboxRow(*row) for row in await (await connection.execute(sql, [self._mark])).fetchall()]
                if rows:
                    await self._producer.send_batch([row.record() for row in rows])
                    self._mark = rows[-1].id
                await asyncio.sleep(0.005)


class SkipLockedRelay:
    """Locks rows instead of keys: while one relay is slow with the first rows of a key, another sends the next ones."""

    def __init__(self, url: str, transport: MemoryTransport, seed: int) -> None:
        self._url = url
        self._producer = SlowProducer(transport, random.Random(seed))

    async def run(self) -> None:
        await self._producer.start()
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
            while True:
                async with connection.transaction():
                    sql = f"SELECT {COLUMNS} FROM bridge_outbox ORDER BY id LIMIT 5 FOR UPDATE SKIP LOCKED"
                    rows = [OutboxRow(*row) for row in await (await connection.execute(sql)).fetchall()]
                    if rows:
                        await self._producer.send_batch([row.record() for row in rows])
                        ids = [row.id for row in rows]
                        await connection.execute("DELETE FROM bridge_outbox WHERE id = ANY(%s)", [ids])
                await asyncio.sleep(0.005)
