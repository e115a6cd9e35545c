"""Relay processes on a real PostgreSQL and a real Kafka: killed, frozen, without Kafka, without the database."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from outbox_process import RelayRig
from outbox_world import KEYS, ORDER, PostgresWriters, new_outbox, order, problems, until

from broker_bridge import Event
from broker_bridge import headers as h
from broker_bridge.stack import LocalStack
from broker_bridge.stack.postgres_server import PostgresServer


@pytest.fixture
def rig(tmp_path: Path, kafka_bootstrap: str, postgres_url: str) -> Iterator[RelayRig]:
    made = RelayRig(tmp_path, kafka_bootstrap, postgres_url)
    yield made
    made.close()


@pytest.fixture
async def writers(rig: RelayRig, unique: str) -> PostgresWriters:
    made = PostgresWriters(rig.url, unique, new_outbox())
    await made.prepare()
    await rig.make_topic(unique)
    return made


async def add(rig: RelayRig, *events: Event) -> list[str]:
    async with await psycopg.AsyncConnection.connect(rig.url) as connection:
        return await new_outbox().add_batch(connection, events)


def event(topic: str, number: int, key: str | None = "c1", note: str | None = None) -> Event:
    return Event(topic=topic, value=order(number, note=note), contract=ORDER, key=key)


async def test_relays_killed_at_random_lose_nothing_and_keep_the_order(rig: RelayRig, writers: PostgresWriters) -> None:
    rng = random.Random(7)
    for _ in range(3):
        rig.start()
    writing = asyncio.create_task(writers.write(writers=8, transactions=70, pause_s=0.08))
    kills = 0
    while not writing.done():
        await asyncio.sleep(rng.uniform(0.2, 0.8))
        up = [relay for relay in rig.running() if rig.is_up(relay)]
        if not up:
            continue
        victim = rng.choice(up)
        victim.kill()
        victim.wait()
        kills += 1
        rig.start()
    await writing
    await until(rig.is_empty)
    committed = await writers.committed()
    records = await rig.read(writers.topic)
    assert problems(committed, records) == []
    total = sum(map(len, committed.values()))
    assert kills >= 6
    assert total > 500
    print(f"\n{kills} relays killed, {total} events committed, {len(records) - total} copies, 0 lost")
    rig.end_well()


async def test_a_frozen_relay_that_wakes_up_late_changes_nothing(rig: RelayRig, writers: PostgresWriters) -> None:
    frozen = [rig.start(), rig.start()]
    writing = asyncio.create_task(writers.write(writers=6, transactions=60, pause_s=0.05))
    await until(lambda: some_records(rig, writers.topic))
    for relay in frozen:
        relay.send_signal(signal.SIGSTOP)
    rig.start()
    await writing
    await until(rig.is_empty)
    for relay in frozen:
        relay.send_signal(signal.SIGCONT)
    again = asyncio.create_task(writers.write(writers=2, transactions=20, pause_s=0.01))
    await again
    await until(rig.is_empty)
    rig.end_well()
    assert problems(await writers.committed(), await rig.read(writers.topic)) == []


async def some_records(rig: RelayRig, topic: str) -> bool:
    return bool(await rig.read(topic))


async def test_kafka_restarted_in_mid_stream(rig: RelayRig, writers: PostgresWriters, stack: LocalStack) -> None:
    rig.start()
    writing = asyncio.create_task(writers.write(writers=4, transactions=60, pause_s=0.05))
    await until(lambda: some_records(rig, writers.topic))
    broker = stack.kafka.brokers[0]
    await asyncio.to_thread(broker.kill)
    await writing
    assert await rig.rows() > 0
    await asyncio.to_thread(broker.start)
    await until(rig.is_empty)
    assert problems(await writers.committed(), await rig.read(writers.topic)) == []
    rig.end_well()


async def test_the_database_restarted_in_mid_stream(
    rig: RelayRig, writers: PostgresWriters, postgres_server: PostgresServer
) -> None:
    rig.start()
    await writers.write(writers=4, transactions=20)
    await until(lambda: some_records(rig, writers.topic))
    await asyncio.to_thread(postgres_server.restart)
    await writers.write(writers=4, transactions=20)
    await until(rig.is_empty)
    assert problems(await writers.committed(), await rig.read(writers.topic)) == []
    rig.end_well()
    assert any(line["event"] == "database_lost" for line in rig.log_lines())


async def test_a_missing_topic_holds_up_no_other(rig: RelayRig, writers: PostgresWriters, unique: str) -> None:
    late = f"{unique}-late"
    waiting = await add(rig, *(event(late, number) for number in range(3)))
    through = await add(rig, *(event(writers.topic, number) for number in range(3)))
    rig.start()

    async def others_are_through() -> bool:
        return await rig.rows() == 3

    await until(others_are_through)
    assert problems({"c1": through}, await rig.read(writers.topic)) == []
    await rig.make_topic(late)
    await until(rig.is_empty)
    assert problems({"c1": waiting}, await rig.read(late)) == []
    rig.end_well()
    assert {line["topic"] for line in rig.log_lines() if line["event"] == "outbox_topic_blocked"} == {late}


async def test_what_the_topic_refuses_is_set_aside_and_holds_only_its_key(rig: RelayRig, unique: str) -> None:
    await PostgresWriters(rig.url, unique, new_outbox()).prepare()
    await rig.make_topic(unique, max_message_bytes="100000")
    [first, large, behind] = await add(rig, event(unique, 1), event(unique, 2, note="x" * 300_000), event(unique, 3))
    others = await add(rig, *(event(unique, number, key) for number, key in enumerate(KEYS[2:])))
    nobody = await add(rig, event(unique, 9, key=None))
    done = rig.command("relay", "--once", "--json", expect=1)
    assert json.loads(done.stdout) == {"sent": 6, "set_aside": 1, "waiting": 1}
    sent = {h.text_of(record.headers, h.CE_ID) for record in await rig.read(unique)}
    assert sent == {first, *others, *nobody}
    status = rig.status(expect=1)
    assert (status["waiting"], status["set_aside"], status["behind_set_aside"]) == (1, 1, 1)
    [row] = status["rows_set_aside"]
    assert (row["event_id"], row["error_code"]) == (large, "record_too_large")
    rig.command("relay", "--once", expect=0)
    rig.command("retry", str(row["id"]))
    rig.command("relay", "--once", expect=1)
    assert "nothing was deleted" in rig.command("discard", str(row["id"]), expect=2).stderr
    rig.command("discard", str(row["id"]), "--yes")
    assert "none of these events" in rig.command("discard", str(row["id"]), "--yes", expect=3).stderr
    rig.command("relay", "--once")
    assert problems({"c1": [first, behind]}, [r for r in await rig.read(unique) if r.key == b"c1"]) == []
    assert rig.status()["waiting"] == 0


async def test_released_keys_go_on_without_what_was_refused(rig: RelayRig, unique: str) -> None:
    await PostgresWriters(rig.url, unique, new_outbox()).prepare()
    await rig.make_topic(unique, max_message_bytes="100000")
    [large, behind] = await add(rig, event(unique, 1, note="x" * 300_000), event(unique, 2))
    rig.command("relay", "--once", "--on-refused", "release", expect=1)
    assert [h.text_of(record.headers, h.CE_ID) for record in await rig.read(unique)] == [behind]
    assert rig.status(expect=1)["rows_set_aside"][0]["event_id"] == large


async def test_events_arrive_as_a_producer_would_send_them(rig: RelayRig, writers: PostgresWriters) -> None:
    headers = [("x-plain", b"text"), ("x-bytes", b"\xff\x00\xfe"), ("x-null", None), ("x-plain", b"again")]
    sent = Event(
        topic=writers.topic, value=None, contract=ORDER, key=b"\xff\x00", event_id="e-1", time_ms=1_790_000_000_000,
        traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01", idempotency_key="i-1", headers=headers, partition=2,
    )  # fmt: skip
    await add(rig, sent)
    rig.command("relay", "--once")
    [record] = await rig.read(writers.topic)
    assert (record.key, record.value, record.partition) == (b"\xff\x00", None, 2)
    assert list(record.headers) == [
        ("ce_specversion", b"1.0"), ("ce_id", b"e-1"), ("ce_source", b"/shop/test"), ("ce_type", ORDER.encode()),
        ("ce_time", b"2026-09-21T14:13:20.000Z"), ("content-type", b"application/avro"),
        ("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"), ("idempotency-key", b"i-1"), *headers,
    ]  # fmt: skip
