"""A schema registry that goes away under real workers, and comes back (row 16)."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from registry_stub import RegistryStub
from worker_process import SCHEMAS, Shop, eventually

from broker_bridge.bootstrap import open_codec, open_transport
from broker_bridge.config import load_config
from broker_bridge.message import OutgoingRecord


@pytest.fixture
def registry() -> Iterator[RegistryStub]:
    """A registry with both versions of the orders, under ids that are not the folder's."""
    with RegistryStub(first_id=101) as stub:
        for version in (1, 2):
            stub.add("shop.OrderPlaced", (SCHEMAS / "shop.OrderPlaced" / f"v{version}.avsc").read_text())
        yield stub


@pytest.fixture
def shop(tmp_path: Path, kafka_bootstrap: str, redis_url: str, unique: str, registry: RegistryStub) -> Iterator[Shop]:
    made = Shop(tmp_path, kafka_bootstrap, redis_url, unique)
    text = made.config_path.read_text().replace(json.dumps(str(SCHEMAS)), '"no-schemas-here"')
    made.config_path.write_text(f'{text}\n[registry]\nurl = "{registry.url}"\nretries = 1\ntimeout = "20s"\n')
    made.make_topics()
    yield made
    made.close()


async def send_under(shop: Shop, schema_id: int, order_id: str) -> None:
    """An order by a producer of a later release, which knows an id that this one has never seen."""
    config = load_config(shop.config_path, {})
    value = shop._event(1, 10, {"order_id": order_id}).value
    encoded = open_codec(config).encode("shop.OrderPlaced", None, value)
    producer = open_transport(config).producer()
    await producer.start()
    framed = b"\x00" + schema_id.to_bytes(4, "big") + encoded[5:]
    await producer.send_batch([OutgoingRecord(topic=shop.topic, value=framed, key=order_id.encode())])
    await producer.stop()


def dead(shop: Shop) -> list[Any]:
    found: list[Any] = json.loads(shop.command("dlq", "list", "--json").stdout)["letters"]
    return found


def test_row_16_a_registry_that_is_away_costs_no_message(shop: Shop, registry: RegistryStub) -> None:
    worker = shop.start_worker()
    shop.place(20)
    eventually(lambda: len(shop.ids()) == 20)
    text = json.loads((SCHEMAS / "shop.OrderPlaced" / "v2.avsc").read_text())
    later = registry.add("shop.OrderPlaced", text | {"doc": "Said in other words."})
    registry.stop()
    asyncio.run(send_under(shop, later, "o-later"))
    shop.place(20, first=20)  # the producer, too, has what it needs on disk
    eventually(lambda: len(shop.ids()) == 40)
    eventually(lambda: any(line["event"] == "registry_lost" for line in shop.log_of(worker)))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    second = shop.start_worker()
    shop.place(20, first=40)
    eventually(lambda: len(shop.ids()) == 60)
    assert "o-later" not in shop.ids()
    assert dead(shop) == []
    registry.start()
    eventually(lambda: "o-later" in shop.ids())
    asyncio.run(send_under(shop, 999, "o-never"))
    eventually(lambda: len(dead(shop)) == 1)
    assert [(letter["code"], letter["attempts"]) for letter in dead(shop)] == [("schema_unknown", 1)]
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0
    assert len(shop.effects()) == 61


def test_without_registry_and_cache_a_worker_says_so_and_ends(shop: Shop, registry: RegistryStub) -> None:
    registry.stop()
    worker = shop.start_worker()
    assert worker.wait(60) == 4
    assert "registry_unavailable" in (shop.folder / "worker-0.log").read_text()
