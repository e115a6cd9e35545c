"""The inbox through every driver, on a real PostgreSQL and on SQLite files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from inbox_labs import ON_POSTGRES, ON_SQLITE, InboxLab, sqlite_file
from inbox_messages import context, message

from broker_bridge.errors import FencedError, UnsafeSettingsError, UsageError


@pytest.fixture(params=[*ON_POSTGRES, *ON_SQLITE])
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[InboxLab]:
    name = request.param
    if name in ON_POSTGRES:
        made = ON_POSTGRES[name](request.getfixturevalue("postgres_url"))
    else:
        made = ON_SQLITE[name](sqlite_file(tmp_path))
    async with made as lab:
        yield lab


@pytest.fixture(params=[*ON_POSTGRES])
async def postgres_lab(request: pytest.FixtureRequest, postgres_url: str) -> AsyncIterator[InboxLab]:
    async with ON_POSTGRES[request.param](postgres_url) as lab:
        yield lab


async def until_somebody_waits(url: str) -> None:
    """Until a session of this database waits for a lock of another."""
    async with asyncio.timeout(30), await psycopg.AsyncConnection.connect(url, autocommit=True) as looking:
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        while (await (await looking.execute(waiting)).fetchone()) == (0,):
            await asyncio.sleep(0.01)


async def test_the_first_time_is_told_once(lab: InboxLab) -> None:
    one, two = await lab.connect(), await lab.connect()
    await lab.begin(one)
    assert await lab.call("first_time", one, message(), context(7)) is True
    assert await lab.call("first_time", one, message(), context(7)) is False
    await lab.execute(one, "COMMIT")
    await lab.begin(two)
    assert await lab.call("first_time", two, message(offset=99), context(8)) is False
    await lab.execute(two, "COMMIT")
    rows = await lab.rows(one, "SELECT consumer, idempotency_key, origin, token FROM bridge_inbox")
    assert rows == [("billing", "shop#1", "orders.placed/0/0", 7)]
    ((applied_ms,),) = await lab.rows(one, "SELECT applied_ms FROM bridge_inbox")
    assert 1_700_000_000_000 < applied_ms < 4_000_000_000_000


async def test_what_was_rolled_back_has_not_happened(lab: InboxLab) -> None:
    connection = await lab.connect()
    for end in ("ROLLBACK", "ROLLBACK", "COMMIT"):
        await lab.begin(connection)
        assert await lab.call("first_time", connection, message()) is True
        await lab.execute(connection, end)
    await lab.begin(connection)
    assert await lab.call("first_time", connection, message()) is False
    await lab.execute(connection, "COMMIT")


async def test_outside_a_transaction_it_refuses(lab: InboxLab) -> None:
    connection = await lab.connect()
    for method, args in (("first_time", (message(),)), ("remember", (message(), 1)), ("fence", (b"k", 1))):
        with pytest.raises(UsageError, match="not in a transaction"):
            await lab.call(method, connection, *args)
    assert await lab.rows(connection, "SELECT count(*) FROM bridge_inbox") == [(0,)]


@pytest.mark.parametrize(("end", "first"), [("COMMIT", False), ("ROLLBACK", True)])
async def test_a_second_transaction_waits_for_the_first(postgres_lab: InboxLab, end: str, first: bool) -> None:
    lab = postgres_lab
    one, two = await lab.connect(), await lab.connect()
    await lab.begin(one)
    assert await lab.call("first_time", one, message()) is True
    await lab.begin(two)
    second = asyncio.create_task(lab.call("first_time", two, message()))
    await until_somebody_waits(lab.target)
    assert not second.done()
    await lab.execute(one, end)
    assert await second is first
    await lab.execute(two, "COMMIT")


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_a_snapshot_that_cannot_see_the_row_fails_and_the_next_sees_it(
    postgres_lab: InboxLab, isolation: str
) -> None:
    lab = postgres_lab
    one, two = await lab.connect(), await lab.connect()
    await lab.begin(two, isolation)
    await lab.rows(two, "SELECT count(*) FROM effects")  # takes the snapshot
    await lab.begin(one, isolation)
    assert await lab.call("first_time", one, message()) is True
    second = asyncio.create_task(lab.call("first_time", two, message()))
    await until_somebody_waits(lab.target)
    await lab.execute(one, "COMMIT")
    with pytest.raises(lab.serialization_error):
        await second
    await lab.execute(two, "ROLLBACK")
    await lab.begin(two, isolation)
    assert await lab.call("first_time", two, message()) is False
    await lab.execute(two, "COMMIT")


@pytest.mark.parametrize("driver", ON_SQLITE)
async def test_sqlite_lets_one_in_at_a_time(driver: str, tmp_path: Path) -> None:
    async with ON_SQLITE[driver](sqlite_file(tmp_path)) as lab:
        one, two = await lab.connect(), await lab.connect()
        await lab.begin(one)
        assert await lab.call("first_time", one, message()) is True
        with pytest.raises(Exception, match="database is locked"):
            await lab.begin(two)
        await lab.execute(one, "COMMIT")
        await lab.begin(two)
        assert await lab.call("first_time", two, message()) is False
        await lab.execute(two, "COMMIT")


async def test_an_answer_is_kept_for_the_next_time(lab: InboxLab) -> None:
    connection = await lab.connect()
    calls: list[int] = []
    answer = {"invoice": "i-1", "cents": 5, "text": "nul \0 in it", "lines": [1, None, True, 1.5]}

    def effect() -> Any:
        calls.append(1)
        return answer

    async def effect_later() -> Any:
        return effect()

    for _ in range(3):
        await lab.begin(connection)
        given = effect if lab.blocking else effect_later
        assert await lab.call("once", connection, message(), context(), given) == answer
        await lab.execute(connection, "COMMIT")
    assert calls == [1]
    assert await lab.call("recall", connection, message("shop#2")) is None


async def test_an_answer_that_is_no_json_is_refused(lab: InboxLab) -> None:
    connection = await lab.connect()
    await lab.begin(connection)
    await lab.call("first_time", connection, message())
    for bad in ({1: 2}, (1, 2), b"x", float("nan"), {"a": {3}}):
        with pytest.raises(UsageError, match="an answer to be kept must"):
            await lab.call("remember", connection, message(), bad)
    with pytest.raises(UsageError, match="call first_time before"):
        await lab.call("remember", connection, message("shop#unknown"), 1)
    await lab.execute(connection, "ROLLBACK")


async def test_consumers_topics_and_keys_do_not_mix(lab: InboxLab) -> None:
    connection = await lab.connect()
    odd = ["shop#1", "shop#2", "x" * 100_000, "x" * 100_001, "nul\0", "nul\0\0", 'it\'s "?" %s $1', "", "schön ✓"]
    await lab.begin(connection)
    assert [await lab.call("first_time", connection, message(key)) for key in odd] == [True] * len(odd)
    assert [await lab.call("first_time", connection, message(key)) for key in odd] == [False] * len(odd)
    assert await lab.call("first_time", connection, message(topic="orders.changed")) is True
    lab.inbox = lab.make_inbox("shipping")
    assert await lab.call("first_time", connection, message()) is True
    await lab.execute(connection, "COMMIT")


async def test_i10_a_smaller_token_is_refused_by_record_key(lab: InboxLab) -> None:
    connection = await lab.connect()
    await lab.begin(connection)
    for key, token in ((b"c1", 5), (b"c1", 5), (b"c1", 9), ("c2", 1), (b"\xff\0", 2**53)):
        await lab.call("fence", connection, key, token)
    with pytest.raises(FencedError, match="a larger token has written"):
        await lab.call("fence", connection, "c1", 8)
    await lab.call("fence", connection, b"c1", 9)
    await lab.execute(connection, "COMMIT")


async def test_i19_purge_forgets_only_what_cannot_come_again(lab: InboxLab) -> None:
    connection = await lab.connect()
    await lab.begin(connection)
    for number in range(5):
        await lab.call("first_time", connection, message(f"shop#{number}"))
    await lab.execute(connection, "COMMIT")
    days = "2 * 86400000"
    await lab.execute(
        connection, f"UPDATE bridge_inbox SET applied_ms = applied_ms - {days} WHERE idempotency_key <> 'shop#4'"
    )
    week, day, hour = timedelta(days=7), timedelta(days=1), timedelta(hours=1)
    with pytest.raises(UnsafeSettingsError, match="can come again for 7 days"):
        await lab.call("purge", connection, older_than=day, replay_window=week)
    assert await lab.call("purge", connection, older_than=week, replay_window=week) == 0
    assert await lab.call("purge", connection, older_than=day, replay_window=hour, limit=3) == 3
    assert await lab.call("purge", connection, older_than=day, replay_window=hour) == 1
    assert await lab.rows(connection, "SELECT idempotency_key FROM bridge_inbox") == [("shop#4",)]


async def test_many_processes_may_create_the_tables_at_once(lab: InboxLab) -> None:
    connections = [await lab.connect() for _ in range(6)]
    await lab.execute(connections[0], "DROP TABLE bridge_inbox")
    await lab.execute(connections[0], "DROP TABLE bridge_inbox_fence")
    if lab.postgres:
        await asyncio.gather(*(lab.call("create", connection) for connection in connections))
    else:
        for connection in connections:
            await lab.call("create", connection)
    assert await lab.rows(connections[0], "SELECT count(*) FROM bridge_inbox") == [(0,)]
