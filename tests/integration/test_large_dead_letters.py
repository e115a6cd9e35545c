"""Row 31: a dead letter that is larger than its topic allows loses its message; if that is not enough its partition
waits, and says so. Nothing is dropped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from worker_process import Shop, eventually

from broker_bridge import headers as h
from broker_bridge.bootstrap import open_transport
from broker_bridge.config import load_config

LONG_MESSAGE = "the card was declined, and " + "here is why, " * 140


@pytest.fixture
def shop(tmp_path: Path, kafka_bootstrap: str, redis_url: str, unique: str) -> Iterator[Shop]:
    made = Shop(tmp_path, kafka_bootstrap, redis_url, unique, route="dead_letter = { message = true }")
    handler = made.folder / "effects.py"
    handler.write_text(handler.read_text().replace('"the card was declined"', repr(LONG_MESSAGE)))
    made.make_topics(1)
    yield made
    made.close()


def allow_letters_of(shop: Shop, size: int) -> None:
    async def alter() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=shop.kafka)
        await admin.start()
        try:
            topic = load_config(shop.config_path, {}).routes[0].lane_names.dead_letter
            limit = {"max.message.bytes": str(size)}
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=limit)])
        finally:
            await admin.close()

    asyncio.run(alter())


def messages_of_letters(shop: Shop) -> list[str | None]:
    """What each dead letter says of its failure, in the order written; None where it says nothing."""

    async def read() -> list[str | None]:
        config = load_config(shop.config_path, {})
        reader = open_transport(config).reader()
        await reader.start()
        try:
            bounds = await reader.offsets([config.routes[0].lane_names.dead_letter])
            first, end = ({tp: both[which] for tp, both in bounds.items()} for which in (0, 1))
            return [h.text_of(one.headers, h.ERROR_MESSAGE) async for batch in reader.read(first, end) for one in batch]
        finally:
            await reader.stop()

    return asyncio.run(read())


def test_row_31_it_is_cut_or_waits_and_is_never_dropped(shop: Shop) -> None:
    worker = shop.start_worker()
    shop.place(1, note="card-declined")
    eventually(lambda: len(messages_of_letters(shop)) == 1)
    (whole,) = messages_of_letters(shop)
    assert whole is not None
    assert len(whole) > 1_800

    allow_letters_of(shop, 1_800)
    shop.place(1, first=1, note="card-declined")
    eventually(lambda: messages_of_letters(shop) == [whole, None])

    allow_letters_of(shop, 200)
    shop.place(1, first=2, note="card-declined")
    shop.place(10, first=3)
    eventually(lambda: any(line["event"] == "route_paused" for line in shop.log_of(worker)))
    (paused,) = [line for line in shop.log_of(worker) if line["event"] == "route_paused"]
    assert paused["code"] == "record_too_large"
    assert len(messages_of_letters(shop)) == 2

    allow_letters_of(shop, 2_000_000)
    eventually(lambda: messages_of_letters(shop) == [whole, None, None])
    eventually(lambda: len(shop.ids()) == 10)
    books = json.loads(shop.command("audit", "--json").stdout)
    assert (books["balanced"], books["produced"], books["dead"]) == (True, 13, 3)
