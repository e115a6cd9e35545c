"""I11: with the inbox exactly one effect, whatever crashes, overlaps, is forgotten or comes again. Windows W1 to W4.

The engine runs in virtual time on a log and a claim store in memory; the handler writes to a real SQLite file. What it
has committed there is what is counted.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import pytest
from orders import GROUP, place, shop

from broker_bridge import Context, Message, RejectedError
from broker_bridge.core.dead_letter import write_redrive
from broker_bridge.inbox import BlockingInbox, Inbox
from broker_bridge.testing import InMemoryBridge, run_virtual

ORDERS = 40
STEPS = 16
POLICIES = {
    "claims": {"lease": "30s", "ttl": "10m", "crash_limit": 1_000},
    "retry": {"in_place": 3, "lanes": ["5s", "10s"]},
    "concurrency": 8,
}


class FirstTime(Protocol):
    """What a handler asks of an inbox."""

    async def first_time(self, connection: Any, message: Message[Any], context: Context) -> bool: ...


class RealInbox:
    """As shipped."""

    def __init__(self) -> None:
        self._inbox: BlockingInbox = Inbox(consumer="billing").blocking

    async def first_time(self, connection: Any, message: Message[Any], context: Context) -> bool:
        return self._inbox.first_time(connection, message, context)


class NoInbox:
    """Trusts the claims alone."""

    async def first_time(self, connection: Any, message: Message[Any], context: Context) -> bool:
        return True


class CheckThenInsert:
    """Looks first, inserts later, into a table without a unique constraint."""

    async def first_time(self, connection: Any, message: Message[Any], context: Context) -> bool:
        connection.execute("COMMIT")
        found = connection.execute("SELECT 1 FROM seen WHERE key = ?", [message.idempotency_key]).fetchone()
        await asyncio.sleep(1)
        await begin(connection)
        if found is None:
            connection.execute("INSERT INTO seen VALUES (?)", [message.idempotency_key])
        return found is None


async def begin(connection: sqlite3.Connection) -> None:
    """BEGIN IMMEDIATE; where another transaction runs, later, in virtual time."""
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError:
            await asyncio.sleep(0.05)


class Billing:
    """A handler that bills orders in a SQLite file, slowly; ``calls`` counts how often each order came."""

    def __init__(self, path: Path, inbox: FirstTime, rng: random.Random) -> None:
        self.path = path
        self.inbox = inbox
        self.calls: Counter[str] = Counter()
        self.rejecting = True
        self._rng = rng

    async def handle(self, message: Message[dict[str, Any]], context: Context) -> None:
        order_id = message.value["order_id"]
        self.calls[order_id] += 1
        if self.rejecting and int(order_id[2:]) % 10 == 0:
            raise RejectedError("not today", target_code="closed")
        await asyncio.sleep(self._rng.random())
        with closing(sqlite3.connect(self.path, isolation_level=None, timeout=0)) as connection:
            connection.execute("PRAGMA synchronous = OFF")  # what is counted need not survive this process
            await begin(connection)
            if await self.inbox.first_time(connection, message, context):
                await asyncio.sleep(self._rng.random() * 2)  # a crash here rolls back
                connection.execute("INSERT INTO invoices VALUES (?, ?)", [order_id, context.token])
            connection.execute("COMMIT")
        if self._rng.random() < 0.1:
            raise OSError("the answer was lost after the commit")
        await asyncio.sleep(self._rng.random() * 2)  # a crash here is W1

    def effects(self) -> Counter[str]:
        with closing(sqlite3.connect(self.path)) as connection:
            return Counter(order_id for (order_id,) in connection.execute("SELECT order_id FROM invoices"))


class Trouble:
    """One thing after another that goes wrong, by the seed."""

    def __init__(self, world: InMemoryBridge, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self._replays = 0
        self.counts: Counter[str] = Counter()

    async def step(self) -> None:
        """Wait a little, then do one."""
        await asyncio.sleep(self._rng.random() * 10)
        kinds = (
            self.crash,
            self.zombie,
            self.forget_claims,
            self.send_again,
            self.replay_twice,
            self.let_claims_expire,
        )
        kind = self._rng.choices(kinds, weights=(4, 4, 4, 4, 4, 1))[0]
        self.counts[kind.__name__] += 1
        await kind()

    async def crash(self) -> None:
        """W1: as SIGKILL, wherever the handlers are."""
        name = self._rng.choice(["worker-1", "worker-2"])
        await self._world.crash_worker(name)
        self._world.start_worker(name)

    async def zombie(self) -> None:
        """W2 with W3: one worker goes on for a while with work that the other was given too; its claims are gone."""
        worker = self._world.workers[self._rng.choice(["worker-1", "worker-2"])]
        worker.line.polling.clear()
        self._world.store.forget_all()
        await worker.evict()
        await asyncio.sleep(self._rng.random() * 8)
        worker.line.polling.set()

    async def forget_claims(self) -> None:
        """W3."""
        self._world.store.forget_all()

    async def send_again(self) -> None:
        """The producer sends some orders once more, under the same ids."""
        await place_all(self._world, self._rng.sample(range(ORDERS), 8))

    async def replay_twice(self) -> None:
        """Every dead letter goes back to the group, twice."""
        self._replays += 1
        raw = self._world.transport.producer()
        await raw.start()
        now_ms = self._world.clock.now_ms()
        for letter in self._world.dead_letters(GROUP):
            lane = f"{GROUP}.orders.placed.redrive"
            copy = write_redrive(letter, topic=lane, replay_id=f"r{self._replays}", now_ms=now_ms)
            await raw.send_batch([copy, copy])

    async def let_claims_expire(self) -> None:
        """W4: everything that was settled is forgotten."""
        await asyncio.sleep(700)


async def place_all(world: InMemoryBridge, numbers: list[int] | range) -> None:
    for number in numbers:
        await place(world, number, customer=f"c{number % 7}")


async def scenario(billing: Billing, rng: random.Random) -> Counter[str]:
    bridge = shop(billing.handle, **POLICIES)
    async with InMemoryBridge(bridge, seed=rng.randrange(2**31)) as world:
        world.start_worker("worker-2")
        await place_all(world, range(ORDERS))
        trouble = Trouble(world, rng)
        for number in range(STEPS):
            billing.rejecting = number < STEPS // 2
            await trouble.step()
        await world.settled()
        await trouble.replay_twice()
        await world.settled()
        await place_all(world, range(ORDERS))
        await world.settled()
    return trouble.counts


def run(folder: Path, seed: int, inbox: FirstTime) -> tuple[Billing, Counter[str]]:
    path = folder / f"billing-{seed}.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE invoices (order_id TEXT, token INTEGER)")
        connection.execute("CREATE TABLE seen (key TEXT)")
        Inbox(consumer="billing").blocking.create(connection)
        connection.commit()
    rng = random.Random(seed)
    billing = Billing(path, inbox, rng)
    return billing, run_virtual(scenario(billing, rng))


def wrong(billing: Billing) -> dict[str, int]:
    """Orders without exactly one invoice."""
    effects = billing.effects()
    return {order: effects[order] for order in wanted() if effects[order] != 1}


def wanted() -> list[str]:
    return [f"o-{number:04d}" for number in range(ORDERS)]


@pytest.mark.parametrize("first_seed", [1, 6, 11, 16])
def test_i11_exactly_one_effect_under_every_fault(tmp_path: Path, first_seed: int) -> None:
    faults: Counter[str] = Counter()
    repeated = 0
    for seed in range(first_seed, first_seed + 5):
        billing, counts = run(tmp_path, seed, RealInbox())
        assert wrong(billing) == {}, f"seed {seed}"
        faults += counts
        repeated += sum(billing.calls.values()) - ORDERS
    assert len(faults) >= 5, "all kinds of faults have happened (claims expire in some runs only)"
    assert repeated > 300, "the handler was called again and again, and did nothing"


def test_without_an_inbox_the_same_faults_repeat_effects(tmp_path: Path) -> None:
    billing, _ = run(tmp_path, 1, NoInbox())
    assert max(wrong(billing).values()) > 1


def test_check_then_insert_is_flagged(tmp_path: Path) -> None:
    """A few seeds will do: two must meet between the check and the insert."""
    runs = (wrong(run(tmp_path, seed, CheckThenInsert())[0]) for seed in range(1, 21))
    assert any(count > 1 for wrongs in runs for count in wrongs.values())
