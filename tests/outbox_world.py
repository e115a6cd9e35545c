"""Services that write into an outbox at once, and the check of what came out of Kafka.

The order of commits is known from the database itself: each transaction adds its event first and then counts its key
up, and the counter's row lock puts transactions of one key in a row.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import psycopg

from broker_bridge import Event, Record
from broker_bridge import headers as h
from broker_bridge.contracts.codec import Codec
from broker_bridge.contracts.directory import SchemaDirectory
from broker_bridge.outbox import Outbox

SCHEMAS = Path(__file__).parents[1] / "schemas"
ORDER = "shop.OrderPlaced"
KEYS = [f"c{number}" for number in range(6)]

COUNTERS = (
    "CREATE TABLE counters (record_key text PRIMARY KEY, n integer NOT NULL)",
    "CREATE TABLE commits (record_key text NOT NULL, n integer NOT NULL, event_id text NOT NULL)",
)


def order(number: int, customer: str = "c1", **changed: Any) -> dict[str, Any]:
    """One order; its id has its number."""
    return {
        "order_id": f"o-{number:05d}", "customer_id": customer, "amount_cents": number, "currency": "EUR",
        "placed_at": 1_790_000_000_000 + number, "note": None, "lines": [], "channel": "web", **changed,
    }  # fmt: skip


def new_outbox(**options: Any) -> Outbox:
    return Outbox(Codec(SchemaDirectory(SCHEMAS)), source="/shop/test", **options)


def problems(committed: dict[str, list[str]], records: Iterable[Record]) -> list[str]:
    """What is wrong: ``committed`` has each key's event ids in the order of their commits.

    Copies of an event after its first do not count: whoever consumes them drops them by their id.
    """
    first: dict[str, list[str]] = defaultdict(list)
    seen: set[str] = set()
    for record in records:
        event_id, key = h.text_of(record.headers, h.CE_ID), (record.key or b"").decode()
        assert event_id is not None
        if event_id not in seen:
            seen.add(event_id)
            first[key].append(event_id)
    wanted = {event_id for ids in committed.values() for event_id in ids}
    found = [f"{len(wanted - seen)} events are missing"] if wanted - seen else []
    if seen - wanted:
        found.append(f"{len(seen - wanted)} events were never committed")
    for key, ids in committed.items():
        there = [event_id for event_id in ids if event_id in seen]
        if first[key] != there:
            found.append(f"{key}: not in the order of commits")
    return found


class PostgresWriters:
    """Writers on PostgreSQL, each with a connection of its own."""

    def __init__(self, url: str, topic: str, outbox: Outbox, *, seed: int = 1) -> None:
        self.url = url
        self.topic = topic
        self.outbox = outbox
        self._seed = seed
        self.rolled_back = 0

    async def prepare(self) -> None:
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            await self.outbox.create(connection)
            for sql in COUNTERS:
                await connection.execute(sql)
            for key in KEYS:
                await connection.execute("INSERT INTO counters VALUES (%s, 0)", [key])

    async def write(self, *, writers: int, transactions: int, pause_s: float = 0.003) -> None:
        """So many writers at once, so many transactions each; one in ten is rolled back."""
        await asyncio.gather(*(self._writer(number, transactions, pause_s) for number in range(writers)))

    async def _writer(self, number: int, transactions: int, pause_s: float) -> None:
        rng = random.Random(self._seed * 1_000 + number)
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            for turn in range(transactions):
                await self._transaction(connection, rng, number * 10_000 + turn, pause_s)

    async def _transaction(self, connection: Any, rng: random.Random, number: int, pause_s: float) -> None:
        keys = sorted(rng.sample(KEYS, 1 if rng.random() < 0.8 else 2))
        events = [Event(topic=self.topic, value=order(number, key), contract=ORDER, key=key) for key in keys]
        rng.shuffle(events)
        async with connection.transaction() as transaction:
            ids = await self.outbox.add_batch(connection, events)
            await asyncio.sleep(rng.random() * pause_s)
            for event, event_id in sorted(zip(events, ids, strict=True), key=lambda pair: str(pair[0].key)):
                counted = "UPDATE counters SET n = n + 1 WHERE record_key = %s RETURNING n"
                row = await (await connection.execute(counted, [event.key])).fetchone()
                await connection.execute("INSERT INTO commits VALUES (%s, %s, %s)", [event.key, row[0], event_id])
            await asyncio.sleep(rng.random() * pause_s)
            if rng.random() < 0.1:
                self.rolled_back += 1
                raise psycopg.Rollback(transaction)

    async def committed(self) -> dict[str, list[str]]:
        """Each key's event ids in the order of their commits."""
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            rows = await (
                await connection.execute("SELECT record_key, event_id FROM commits ORDER BY record_key, n")
            ).fetchall()
        return grouped(rows)


class SqliteWriters:
    """Writers on one SQLite file, each in a thread of its own."""

    def __init__(self, path: Path, topic: str, outbox: Outbox, *, seed: int = 1) -> None:
        self.path = path
        self.topic = topic
        self.outbox = outbox.blocking
        self._seed = seed

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, isolation_level=None, timeout=30)

    async def prepare(self) -> None:
        connection = self.connect()
        connection.execute("PRAGMA journal_mode = WAL")
        self.outbox.create(connection)
        for sql in COUNTERS:
            connection.execute(sql)
        connection.executemany("INSERT INTO counters VALUES (?, 0)", [[key] for key in KEYS])
        connection.close()

    async def write(self, *, writers: int, transactions: int) -> None:
        turns = [asyncio.to_thread(self._writer, number, transactions) for number in range(writers)]
        await asyncio.gather(*turns)

    def _writer(self, number: int, transactions: int) -> None:
        rng = random.Random(self._seed * 1_000 + number)
        connection = self.connect()
        for turn in range(transactions):
            key = rng.choice(KEYS)
            connection.execute("BEGIN IMMEDIATE")
            event_id = self.outbox.add(connection, self.topic, order(turn, key), key=key, contract=ORDER)
            counted = "UPDATE counters SET n = n + 1 WHERE record_key = ? RETURNING n"
            [(n,)] = connection.execute(counted, [key]).fetchall()
            connection.execute("INSERT INTO commits VALUES (?, ?, ?)", [key, n, event_id])
            connection.execute("ROLLBACK" if rng.random() < 0.1 else "COMMIT")
            time.sleep(rng.random() * 0.02)  # a service that does other things too: the file has one writer at a time
        connection.close()

    async def committed(self) -> dict[str, list[str]]:
        connection = self.connect()
        rows = connection.execute("SELECT record_key, event_id FROM commits ORDER BY record_key, n").fetchall()
        connection.close()
        return grouped(rows)


def grouped(rows: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for key, event_id in rows:
        found[key].append(event_id)
    return dict(found)


async def until(holds: Callable[[], Any], *, within_s: float = 60) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(within_s):
        while not await holds():
            await asyncio.sleep(0.02)
