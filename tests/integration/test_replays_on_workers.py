"""Replays that meet real workers: three of one set at once, of what is still poison, and later than claims live
(fault rows 46, 48 and 49). Workers are processes; plans are made and run here."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis
from worker_process import WAIT_S, Shop, eventually

from broker_bridge.bootstrap import open_store, open_transport
from broker_bridge.clock import SystemClock
from broker_bridge.config import load_config
from broker_bridge.core.letters import LetterState, Selection
from broker_bridge.core.replay_pace import PaceLimits
from broker_bridge.core.replay_plan import Prediction
from broker_bridge.core.replay_state import Heading, ItemStatus
from broker_bridge.errors import PlanRefusedError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.replay.audit import Auditor
from broker_bridge.replay.dead_letters import DeadLetters
from broker_bridge.replay.plan_file import open_plan, spool, write_plan
from broker_bridge.replay.planner import Planner, PlanWishes
from broker_bridge.replay.route import ReplayRoute
from broker_bridge.replay.runner import ReplayRunner, RunReport
from broker_bridge.replay.sources import DeadLetterSource
from broker_bridge.replay.status import StatusReader
from broker_bridge.transport.base import BatchProducer, LogReader

RATE = 40.0


class Desk:
    """Where an operator sits: makes plans, runs them, looks at what became of them."""

    def __init__(self, shop: Shop, reader: LogReader, producer: BatchProducer, store: IdempotencyStore) -> None:
        self._folder = shop.folder
        self._route = ReplayRoute.of(load_config(shop.config_path, {}).routes[0])
        self._reader, self._producer, self._store = reader, producer, store
        self._letters = DeadLetters(reader=reader, store=store, route=self._route)

    async def plan(self, name: str, *, allow_expired: bool = False) -> Prediction:
        source = DeadLetterSource(reader=self._reader, store=self._store, route=self._route)
        planner = Planner(
            source=source, reader=self._reader, store=self._store, route=self._route, clock=SystemClock(), contract=None
        )
        with spool(self._folder) as lines:
            header = await planner.draft(PlanWishes("ada", name, allow_expired=allow_expired), spool=lines)
            write_plan(self._folder / name, header, lines)
        return header.prediction

    async def run(self, name: str) -> RunReport:
        runner = ReplayRunner(
            reader=self._reader, producer=self._producer, store=self._store, route=self._route, clock=SystemClock(),
            batch=5,
        )  # fmt: skip
        with open_plan(self._folder / name) as plan:
            return await runner.send(plan, PaceLimits(rate_per_s=RATE))

    async def outcome(self, name: str) -> Counter[ItemStatus]:
        status = StatusReader(reader=self._reader, store=self._store, clock=SystemClock())
        with open_plan(self._folder / name) as plan:
            return Counter((await status.wait(plan, timeout_ms=WAIT_S * 1000)).counts)

    async def states(self) -> Counter[LetterState]:
        return Counter([one.state async for batch in self._letters.browse(Selection()) for one in batch])

    async def is_balanced(self) -> bool:
        report = await Auditor(reader=self._reader, store=self._store, route=self._route).audit()
        return report.books.balanced(expect_drained=True)


@asynccontextmanager
async def desk_of(shop: Shop) -> AsyncIterator[Desk]:
    config = load_config(shop.config_path, {})
    transport, store = open_transport(config), open_store(config)
    reader, producer = transport.reader(), transport.producer()
    await reader.start()
    await producer.start()
    await store.start()
    try:
        yield Desk(shop, reader, producer, store)
    finally:
        await store.stop()
        await producer.stop()
        await reader.stop()


async def come_true(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition that has to be asked for, with a deadline."""
    deadline = time.monotonic() + WAIT_S
    while not await holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


@pytest.fixture
def new_shop(tmp_path: Path, kafka_bootstrap: str, redis_url: str, unique: str) -> Iterator[Callable[..., Shop]]:
    """Makes a shop with so many dead letters that wait, and a worker; its processes end with the test."""
    made: list[Shop] = []

    def make(*, dead: int, route: str = "") -> Shop:
        shop = Shop(tmp_path, kafka_bootstrap, redis_url, unique, route=route)
        made.append(shop)
        shop.make_topics()
        worker = shop.start_worker()
        shop.place(dead, customers=7, note="card-declined")
        eventually(lambda: dead_lettered(shop) == dead)
        assert worker.poll() is None
        return shop

    yield make
    for shop in made:
        shop.close()


def dead_lettered(shop: Shop) -> int:
    """How many dead letters the last worker tells of."""
    return sum(line["event"] == "message_dead_lettered" for line in shop.log_of(shop.workers[-1]))


def mend_handler(shop: Shop) -> None:
    """The worker that runs ends; the next one accepts what was refused."""
    code = shop.folder / "effects.py"
    code.write_text(code.read_text().replace('"card-declined"', '"never"'))
    shop.workers[-1].terminate()
    assert shop.workers[-1].wait(30) == 0
    shop.start_worker()


def test_row_48_replays_of_one_set_at_once_complete_each_message_once(new_shop: Callable[..., Shop]) -> None:
    """The same plan at two desks, and another plan of the same letters."""

    async def replay_at_three_desks() -> list[int]:
        async with desk_of(shop) as ada, desk_of(shop) as bob, desk_of(shop) as eve:
            await ada.plan("cards work")
            await eve.plan("nobody else has")
            runs = (ada.run("cards work"), bob.run("cards work"), eve.run("nobody else has"))
            reports = await asyncio.gather(*runs, return_exceptions=True)
            await come_true(lambda: holds(ada, LetterState.RESOLVED, 30))
            await come_true(ada.is_balanced)
        # Of the two runs of one plan one has waited for the other, or was refused.
        assert all(isinstance(one, RunReport | PlanRefusedError) for one in reports), reports
        return [one.sent for one in reports if isinstance(one, RunReport)]

    shop = new_shop(dead=30)
    mend_handler(shop)
    sent = asyncio.run(replay_at_three_desks())
    assert sum(map(bool, sent)) >= 2, "they did meet"
    assert len(shop.ids()) == len(shop.effects()) == 30, "each once, whoever sent it"


async def holds(desk: Desk, state: LetterState, count: int) -> bool:
    return await desk.states() == {state: count}


def test_row_49_what_is_still_poison_comes_back_as_often_as_hops_allow(new_shop: Callable[..., Shop]) -> None:
    async def replay_until_refused() -> None:
        async with desk_of(shop) as desk:
            for hop in (1, 2):
                assert (await desk.plan(f"perhaps now, {hop}")).to_replay == 10
                began = time.monotonic()
                assert (await desk.run(f"perhaps now, {hop}")).sent == 10
                assert time.monotonic() - began >= 5 / RATE, "not all at once"
                assert await desk.outcome(f"perhaps now, {hop}") == {ItemStatus.DEAD_AGAIN: 10}
                assert await desk.states() == {LetterState.DEAD_AGAIN: 10, LetterState.SUPERSEDED: 10 * hop}
            assert (await desk.plan("once more")).to_replay == 0
            await come_true(desk.is_balanced)

    shop = new_shop(dead=10, route="dead_letter = { max_hops = 2 }")
    asyncio.run(replay_until_refused())
    assert shop.effects() == []
    assert dead_lettered(shop) == 30


def let_claims_run_out(shop: Shop) -> None:
    """What happens at the end of ``claims.ttl``, which each claim carries, happens now."""
    with redis.Redis.from_url(shop.redis) as client:
        claims = [key for key in client.scan_iter(f"{shop.name}:*") if not key.endswith(b":epoch")]
        assert claims
        assert all(client.pttl(key) > 0 for key in claims), "it would have come by itself"
        for key in claims:
            client.pexpire(key, 1)
        eventually(lambda: not client.exists(*claims))


def test_row_46_a_replay_later_than_claims_live_is_refused_unless_allowed(new_shop: Callable[..., Shop]) -> None:
    async def replay_too_late() -> None:
        async with desk_of(shop) as desk:
            assert (await desk.plan("in time")).to_replay == 5
            let_claims_run_out(shop)
            assert await desk.states() == {LetterState.UNKNOWN: 5}
            report = await desk.run("in time")
            assert (report.sent, report.headings) == (0, {Heading.CLAIM_EXPIRED: 5})
            late = await desk.plan("late")
            assert (late.to_replay, late.claim_expired) == (0, 5)

    async def replay_all_the_same() -> None:
        async with desk_of(shop) as desk:
            assert (await desk.plan("known to be safe", allow_expired=True)).to_replay == 5
            assert (await desk.run("known to be safe")).sent == 5
            assert await desk.outcome("known to be safe") == {ItemStatus.COMPLETED: 5}

    shop = new_shop(dead=5)
    asyncio.run(replay_too_late())
    mend_handler(shop)
    asyncio.run(replay_all_the_same())
    assert len(shop.effects()) == len(shop.ids()) == 5
    assert all(effect["replay"] for effect in shop.effects()), "and the target can tell"
    let_claims_run_out(shop)
    shop.place(1, customers=7, note="card-declined")  # the event itself once more
    eventually(lambda: len(shop.effects()) == 6)
    assert len(shop.ids()) == 5, "window W4: nothing remembers that it was done"
