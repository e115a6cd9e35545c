"""Crashing relays on one outbox: nothing missing, each key in the order of commits. And relays that get it wrong."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from outbox_relays import HighWaterMarkRelay, SkipLockedRelay, real_relay
from outbox_world import PostgresWriters, SqliteWriters, new_outbox, problems, until

from broker_bridge import Record
from broker_bridge import headers as h
from broker_bridge.clock import SystemClock
from broker_bridge.transport.memory import MemoryTransport

TOPIC = "orders.placed"
Make = Callable[[str, MemoryTransport, int], Any]


def new_transport() -> MemoryTransport:
    transport = MemoryTransport(SystemClock())
    transport.log.create_topic(TOPIC, 4)
    return transport


async def waiting(url: str) -> int:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        row = await (await connection.execute("SELECT count(*) FROM bridge_outbox")).fetchone()
    assert row is not None
    return int(row[0])


class Relays:
    """Relays as tasks; ``crash`` ends one wherever it is and starts another."""

    def __init__(self, make: Make, url: str, transport: MemoryTransport, seed: int, count: int) -> None:
        self._make = lambda number: make(url, transport, seed * 100 + number)
        self._rng = random.Random(seed)
        self._started = 0
        self._running: list[asyncio.Task[Any]] = []
        self.crashes = 0
        for _ in range(count):
            self._start()

    def _start(self) -> None:
        self._started += 1
        self._running.append(asyncio.create_task(self._make(self._started).run()))

    async def crash(self) -> None:
        victim = self._running.pop(self._rng.randrange(len(self._running)))
        victim.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await victim
        self.crashes += 1
        self._start()

    async def crash_until(self, done: asyncio.Task[Any]) -> None:
        while not done.done():
            await asyncio.sleep(self._rng.random() * 0.15)
            await self.crash()

    async def end(self) -> None:
        for task in self._running:
            task.cancel()
        for answer in await asyncio.gather(*self._running, return_exceptions=True):
            assert isinstance(answer, asyncio.CancelledError), answer


async def outcome(
    writers: PostgresWriters | SqliteWriters,
    make: Make,
    *,
    seed: int,
    crashes: bool,
    left: Callable[[], Any],
    count: int = 3,
) -> list[str]:
    """Write and relay at once, wait until nothing is ``left``, and check."""
    transport = new_transport()
    await writers.prepare()
    relays = Relays(make, writers.url, transport, seed, count)
    writing = asyncio.create_task(writers.write(writers=6, transactions=40))
    try:
        if crashes:
            await relays.crash_until(writing)
            assert relays.crashes >= 3
        await writing
        await until(left)
    finally:
        writing.cancel()
        await relays.end()
    return problems(await writers.committed(), transport.log.records(TOPIC))


@pytest.mark.parametrize("seed", range(1, 5))
async def test_crashing_relays_lose_nothing_and_keep_the_order_of_commits(postgres_url: str, seed: int) -> None:
    writers = PostgresWriters(postgres_url, TOPIC, new_outbox(), seed=seed)

    async def empty() -> bool:
        return await waiting(postgres_url) == 0

    assert await outcome(writers, real_relay, seed=seed, crashes=True, left=empty) == []
    assert writers.rolled_back > 5
    assert sum(map(len, (await writers.committed()).values())) > 200


@pytest.mark.parametrize("seed", range(1, 3))
async def test_the_same_on_sqlite(tmp_path: Path, seed: int) -> None:
    writers = SqliteWriters(tmp_path / "shop.db", TOPIC, new_outbox(), seed=seed)

    async def empty() -> bool:
        return writers.connect().execute("SELECT count(*) FROM bridge_outbox").fetchone() == (0,)

    assert await outcome(writers, real_relay, seed=seed, crashes=True, left=empty) == []


async def found_by_the_checks(url_of: Callable[[], str], make: Make, *, key_lock: bool, steady: bool) -> list[str]:
    """The problems of a wrong relay or writer. ``steady``: it never empties the table."""
    writers = PostgresWriters(url_of(), TOPIC, new_outbox(key_lock=key_lock))
    counts: list[int] = []

    async def done() -> bool:
        counts.append(await waiting(writers.url))
        return len(counts) > 25 if steady else counts[-1] == 0

    return await outcome(writers, make, seed=1, crashes=False, left=done, count=1 if steady else 3)


async def test_a_smaller_id_that_commits_after_a_larger_one_was_read(postgres_url: str) -> None:
    """The gap, step by step: the mark passes over it, the relay as shipped does not."""
    transport, outbox = new_transport(), new_outbox()
    await PostgresWriters(postgres_url, TOPIC, outbox).prepare()
    relay = asyncio.create_task(HighWaterMarkRelay(postgres_url, transport, 1).run())
    real = asyncio.create_task(real_relay(postgres_url, real_transport := new_transport(), 1).run())
    connect = psycopg.AsyncConnection.connect
    async with await connect(postgres_url) as slow, await connect(postgres_url) as quick:
        early = await outbox.add(slow, TOPIC, None, key="c1", contract="shop.OrderPlaced")
        late = await outbox.add(quick, TOPIC, None, key="c2", contract="shop.OrderPlaced")
        await quick.commit()

        async def read() -> bool:
            return bool(transport.log.records(TOPIC)) and bool(real_transport.log.records(TOPIC))

        await until(read)
        await slow.commit()
        last = await outbox.add(quick, TOPIC, None, key="c2", contract="shop.OrderPlaced")
        await quick.commit()

    committed = {"c1": [early], "c2": [late, last]}

    async def read_again() -> bool:
        marked = {h.text_of(record.headers, h.CE_ID) for record in transport.log.records(TOPIC)}
        sent = {h.text_of(record.headers, h.CE_ID) for record in real_transport.log.records(TOPIC)}
        return last in marked and {early, late, last} <= sent

    try:
        await until(read_again)
    finally:
        for task in (relay, real):
            task.cancel()
        await asyncio.gather(relay, real, return_exceptions=True)
    assert problems(committed, real_transport.log.records(TOPIC)) == []
    assert "1 events are missing" in problems(committed, transport.log.records(TOPIC))


async def test_a_relay_that_locks_rows_instead_of_keys_is_flagged(postgres_url: str) -> None:
    found = await found_by_the_checks(lambda: postgres_url, SkipLockedRelay, key_lock=True, steady=False)
    assert any("not in the order of commits" in problem for problem in found)


async def test_a_writer_without_the_key_lock_is_flagged(postgres_url: str) -> None:
    found = await found_by_the_checks(lambda: postgres_url, real_relay, key_lock=False, steady=False)
    assert any("not in the order of commits" in problem for problem in found)


def copies(*ids: str, key: str = "c1") -> list[Record]:
    found = []
    for offset, event_id in enumerate(ids):
        headers = [(h.CE_ID, event_id.encode())]
        found.append(Record(TOPIC, 0, offset, 0, key.encode(), None, headers))
    return found


def test_the_check_itself() -> None:
    assert problems({"c1": ["a", "b", "c"]}, copies("a", "b", "a", "b", "c", "a")) == []
    assert problems({"c1": ["a", "b"]}, copies("a")) == ["1 events are missing"]
    assert problems({"c1": ["a"]}, copies("a", "b")) == [
        "1 events were never committed",
        "c1: not in the order of commits",
    ]
    assert problems({"c1": ["a", "b"]}, copies("b", "a", "b")) == ["c1: not in the order of commits"]
