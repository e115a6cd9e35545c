"""The outbox's values and decisions, and what a service is told in its own transaction."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from outbox_world import ORDER, SCHEMAS, new_outbox, order

from broker_bridge import Event, Position
from broker_bridge.contracts import Codec, SchemaDirectory
from broker_bridge.errors import DeliveryTimeoutError, RecordTooLargeError, UsageError, ValueInvalidError
from broker_bridge.headers import schema_header_of
from broker_bridge.message import Header
from broker_bridge.outbox.batch import LARGE_BYTES, judged, readable, without_followers_of_large
from broker_bridge.outbox.blocked import Backoff, BlockedTopics
from broker_bridge.outbox.row import BUCKETS, OutboxRow, bucket_of, lock_of, read_headers, write_headers


def row(number: int, key: bytes | None = b"c1", *, topic: str = "t", size: int = 500, headers: str = "[]") -> OutboxRow:
    return OutboxRow(number, topic, key, b"v", headers, None, f"e-{number}", size)


@given(st.lists(st.tuples(st.text(max_size=20), st.none() | st.binary(max_size=40)), max_size=8))
def test_headers_come_back_byte_for_byte(headers: list[Header]) -> None:
    assert read_headers(write_headers(headers)) == headers


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[["a"]]', '[["a", {"base64": "?"}]]', '[["a", {"x": 1}]]', "null"])
def test_damaged_headers_are_said_to_be_damaged(text: str) -> None:
    if text == "{}":
        assert read_headers(text) == []
        return
    with pytest.raises(ValueError, match="headers are not"):
        read_headers(text)


def test_the_bucket_is_what_the_guide_says() -> None:
    assert bucket_of(b"c1", "e-1") == 16, "what printf c1 | sha256sum begins with, modulo 64"
    assert bucket_of(None, "e-1") == bucket_of(b"e-1", "other")
    assert len({bucket_of(f"c{number}".encode(), "") for number in range(2_000)}) == BUCKETS


def test_locks_differ_by_table_topic_and_key_and_fit_a_bigint() -> None:
    locks = {lock_of(table, topic, key) for table in ("a", "b") for topic in ("t", "u") for key in (b"k", b"l", b"")}
    assert len(locks) == 12
    assert all(-(2**63) <= lock < 2**63 for lock in locks)


def test_nothing_of_a_key_goes_behind_a_large_row_in_one_batch() -> None:
    large = LARGE_BYTES
    rows = [row(1), row(2, size=large), row(3), row(4, b"c2"), row(5, None, size=large), row(6, None)]
    assert [kept.id for kept in without_followers_of_large(rows)] == [1, 2, 4, 5, 6]


def test_what_answers_mean() -> None:
    rows = [row(1), row(2), row(3), row(4, b"c2"), row(5, b"c2", topic="u"), row(6, None), row(7, None)]
    late, large = DeliveryTimeoutError("late"), RecordTooLargeError("large")
    there = Position("t", 0, 0)
    outcome = judged(rows, [there, late, there, large, there, late, there])
    assert outcome.sent == [1, 5, 7], "behind a failure of its key a row does not count as sent"
    assert outcome.refused == {4: large}
    assert outcome.failed == {"t": late}


def test_a_damaged_row_holds_its_key_only() -> None:
    rows, records, damaged = readable([row(1), row(2, headers="?"), row(3), row(4, b"c2")])
    assert [kept.id for kept in rows] == [1, 4]
    assert len(records) == 2
    assert damaged[2].code == "headers_invalid"


def test_a_blocked_topic_is_left_alone_longer_and_longer() -> None:
    blocked = BlockedTopics(Backoff(100, 5_000, random.Random(1)))
    delays = [blocked.block("t", DeliveryTimeoutError("late"), now_ms=0) for _ in range(12)]
    assert 50 <= delays[0] <= 100
    assert 2_500 <= delays[-1] <= 5_000
    assert blocked.now(delays[-1] - 1) == ["t"]
    assert blocked.now(delays[-1]) == []
    assert blocked.last_error is not None
    assert blocked.open({"t", "u"}) == ["t"]
    assert blocked.last_error is None


@pytest.fixture
def connection(tmp_path: Path) -> Any:
    with closing(sqlite3.connect(tmp_path / "shop.db", isolation_level=None)) as made:
        new_outbox().blocking.create(made)
        yield made


def test_a_value_that_does_not_fit_fails_in_the_services_own_transaction(connection: sqlite3.Connection) -> None:
    outbox = new_outbox(max_record_bytes=5_000).blocking
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(ValueInvalidError):
        outbox.add(connection, "t", {"order_id": 1}, contract=ORDER)
    with pytest.raises(RecordTooLargeError, match="the outbox takes 5000"):
        outbox.add(connection, "t", order(1, note="x" * 6_000), contract=ORDER)
    good = Event(topic="t", value=order(1), contract=ORDER)
    with pytest.raises(ValueInvalidError):
        outbox.add_batch(connection, [good, Event(topic="t", value={}, contract=ORDER)])
    connection.execute("COMMIT")
    assert connection.execute("SELECT count(*) FROM bridge_outbox").fetchone() == (0,)


def test_outside_a_transaction_it_refuses(connection: sqlite3.Connection) -> None:
    with pytest.raises(UsageError, match="not in a transaction"):
        new_outbox().blocking.add(connection, "t", order(1), contract=ORDER)


async def test_connections_of_unknown_drivers_are_named() -> None:
    with pytest.raises(UsageError, match=r"builtins\.object is not a database connection"):
        await new_outbox().add(object(), "t", order(1), contract=ORDER)


def test_many_events_at_once_keep_their_order(connection: sqlite3.Connection) -> None:
    events = [Event(topic="t", value=order(n), contract=ORDER, key="c1", event_id=f"e-{n}") for n in range(1_234)]
    connection.execute("BEGIN IMMEDIATE")
    assert new_outbox().blocking.add_batch(connection, events) == [f"e-{n}" for n in range(1_234)]
    connection.execute("COMMIT")
    found = connection.execute("SELECT event_id FROM bridge_outbox ORDER BY id").fetchall()
    assert found == [(f"e-{n}",) for n in range(1_234)]


def test_a_row_keeps_the_header_that_names_its_schema(connection: sqlite3.Connection) -> None:
    codec = Codec(SchemaDirectory(SCHEMAS))
    connection.execute("BEGIN IMMEDIATE")
    new_outbox(wire_form="header").blocking.add(connection, "t", order(1), contract=ORDER)
    connection.execute("COMMIT")
    [(value, headers)] = connection.execute("SELECT record_value, headers FROM bridge_outbox").fetchall()
    found = codec.decode(value, schema_header=schema_header_of(read_headers(headers)))
    assert found.value["order_id"] == order(1)["order_id"]
    with pytest.raises(UsageError, match="'avro' is no wire form"):
        new_outbox(wire_form="avro")


@pytest.mark.parametrize("name", ["", "Bridge", "a b", "x;drop", "a.b.c", "ä", "1a", "a'"])
def test_table_names_that_are_no_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no table name"):
        new_outbox(table=name)


def test_the_sql_for_a_migration_makes_the_tables() -> None:
    with closing(sqlite3.connect(":memory:")) as made:
        made.executescript(new_outbox(table="app_outbox").create_table_sql("sqlite"))
        assert made.execute("SELECT count(*) FROM app_outbox_bucket").fetchone() == (BUCKETS,)
