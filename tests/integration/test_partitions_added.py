"""Row 18: a topic is given more partitions while workers run. Nothing is lost; a key that moves to another partition
has an order in each of the two, and none across."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from worker_process import Shop, eventually

from broker_bridge.bootstrap import open_transport
from broker_bridge.config import load_config

BEFORE, AFTER = 4, 6


LOOKS_OFTEN = """
from broker_bridge.transport.kafka_consumer import KafkaConsumer
options = KafkaConsumer._options
KafkaConsumer._options = lambda self: options(self) | {"metadata_max_age_ms": 500}
"""
"""Clients look at topics anew every five minutes; these workers do twice a second."""


@pytest.fixture
def shop(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str, unique: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shop]:
    (tmp_path / "often").mkdir()
    (tmp_path / "often" / "sitecustomize.py").write_text(LOOKS_OFTEN)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path / "often"), os.environ.get("PYTHONPATH", ""))))
    made = Shop(tmp_path, kafka_bootstrap, redis_url, unique)
    made.make_topics(BEFORE)
    yield made
    made.close()


def add_partitions(shop: Shop, topics: list[str]) -> None:
    async def add() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=shop.kafka)
        await admin.start()
        try:
            await admin.create_partitions({topic: NewPartitions(AFTER) for topic in topics})
        finally:
            await admin.close()

    asyncio.run(add())
    eventually(lambda: all(count == AFTER for count in asyncio.run(counts(shop, topics))))


async def counts(shop: Shop, topics: list[str]) -> list[int | None]:
    """Partitions that a client which comes now is told of."""
    admin = open_transport(load_config(shop.config_path, {})).admin()
    await admin.start()
    try:
        return list((await admin.describe(topics)).values())
    finally:
        await admin.stop()


def lanes(shop: Shop) -> list[str]:
    route = load_config(shop.config_path, {}).routes[0]
    return list(route.lane_names.all(route.retry.lanes_ms))


def in_order_per_partition_and_key(effects: list[dict[str, Any]]) -> bool:
    latest: dict[tuple[int, str], int] = {}
    for effect in effects:
        place = effect["partition"], effect["key"]
        if effect["offset"] < latest.get(place, -1):
            return False
        latest[place] = effect["offset"]
    return True


def test_lanes_first_then_the_topic(shop: Shop) -> None:
    for _ in range(2):
        shop.start_worker(handler_s=0.005)
    shop.place(300, customers=40)
    eventually(lambda: len(shop.effects()) > 50)
    add_partitions(shop, lanes(shop))
    add_partitions(shop, [shop.topic])
    placed = shop.place(300, customers=40, first=300)
    shop.place(20, customers=20, first=600, note="card-declined")
    assert {position.partition for position in placed} > set(range(BEFORE)), "keys moved"
    eventually(lambda: len(shop.ids()) == 600)
    eventually(lambda: json.loads(shop.command("audit", "--json", expect=None).stdout)["dead"] == 20)
    effects = shop.effects()
    assert len(effects) == 600
    assert in_order_per_partition_and_key(effects)


def test_the_topic_alone_and_its_lanes_later(shop: Shop) -> None:
    """What has to go to a lane that has no such partition waits, and says so, until it has."""
    worker = shop.start_worker()
    shop.place(100, customers=40)
    eventually(lambda: len(shop.ids()) == 100)
    add_partitions(shop, [shop.topic])
    shop.place(40, customers=40, first=100)
    eventually(lambda: len(shop.ids()) == 140)
    shop.place(20, customers=20, first=600, note="card-declined")
    eventually(lambda: any(line["event"] == "route_paused" for line in shop.log_of(worker)))
    (paused,) = [line for line in shop.log_of(worker) if line["event"] == "route_paused"]
    assert paused["code"] == "topic_missing"
    assert "has only 4 partitions" in paused["error"]
    books = json.loads(shop.command("audit", "--json").stdout)
    assert (books["completed"], books["dead"], books["in_progress"]) == (140, 0, 20), "nothing is lost meanwhile"
    add_partitions(shop, lanes(shop))
    eventually(lambda: json.loads(shop.command("audit", "--json", expect=None).stdout)["dead"] == 20)
    assert worker.poll() is None
