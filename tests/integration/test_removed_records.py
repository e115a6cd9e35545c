"""Records that were removed before they were read (fault rows 28 and 29): the worker ends and says which, nothing is
passed over in silence, and goes on only where somebody has moved the group on purpose."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from worker_process import Shop, eventually

from broker_bridge.bootstrap import open_transport
from broker_bridge.config import load_config
from broker_bridge.message import TopicPartition

ENDED_NOT_FOUND = 3
"""The exit status of ``offset_out_of_range``."""


@pytest.fixture
def shop(tmp_path: Path, kafka_bootstrap: str, redis_url: str, unique: str) -> Iterator[Shop]:
    made = Shop(tmp_path, kafka_bootstrap, redis_url, unique)
    made.make_topics()
    yield made
    made.close()


async def bounds_and_committed(shop: Shop) -> tuple[dict[TopicPartition, tuple[int, int]], dict[TopicPartition, int]]:
    """First and next offset of each partition of the source, and what the group has committed."""
    config = load_config(shop.config_path, {})
    reader = open_transport(config).reader()
    await reader.start()
    try:
        bounds = await reader.offsets([shop.topic])
        committed = await reader.group_offsets(config.routes[0].group, [shop.topic])
    finally:
        await reader.stop()
    return bounds, {tp: offset or 0 for tp, offset in committed.items()}


def committed(shop: Shop) -> dict[TopicPartition, int]:
    return asyncio.run(bounds_and_committed(shop))[1]


def remove_all_but_the_last(shop: Shop) -> dict[TopicPartition, int]:
    """As retention does. Where each partition begins from now on."""

    async def remove() -> dict[TopicPartition, int]:
        bounds, _ = await bounds_and_committed(shop)
        first = {tp: end - 1 for tp, (_, end) in bounds.items()}
        admin = AIOKafkaAdminClient(bootstrap_servers=shop.kafka)
        await admin.start()
        try:
            await admin.delete_records({KafkaPartition(*tp): RecordsToDelete(offset) for tp, offset in first.items()})
        finally:
            await admin.close()
        return first

    return asyncio.run(remove())


def reset_group(shop: Shop, offsets: dict[TopicPartition, int]) -> None:
    """What ``kafka-consumer-groups --reset-offsets`` does: commit for a group that nobody is in."""

    async def reset() -> None:
        group = load_config(shop.config_path, {}).routes[0].group
        consumer = AIOKafkaConsumer(bootstrap_servers=shop.kafka, group_id=group, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign([KafkaPartition(*tp) for tp in offsets])
            await consumer.commit({KafkaPartition(*tp): offset for tp, offset in offsets.items()})
        finally:
            await consumer.stop()

    asyncio.run(reset())


def ends_and_says_so(shop: Shop, worker: subprocess.Popen[bytes]) -> str:
    """The worker ends by itself; the place that it says is not in the log."""
    assert worker.wait(60) == ENDED_NOT_FOUND
    (failed,) = [line for line in shop.log_of(worker) if line["event"] == "route_failed"]
    assert (failed["level"], failed["code"]) == ("error", "offset_out_of_range")
    text = (shop.folder / f"worker-{shop.workers.index(worker)}.log").read_text()
    assert "which holds" in text, "both offsets are named"
    assert "reset the group's offset on purpose" in text
    return str(failed["error"])


def test_row_28_a_committed_offset_that_is_gone_stops_the_worker_each_time(shop: Shop) -> None:
    worker = shop.start_worker()
    shop.place(80, customers=40)
    eventually(lambda: len(shop.ids()) == 80)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    before = committed(shop)
    shop.place(80, customers=40, first=80)
    first = remove_all_but_the_last(shop)
    assert all(first[tp] > before[tp] for tp in first), "something unread was removed of each"
    for _ in range(2):
        assert shop.topic in ends_and_says_so(shop, shop.start_worker())
        assert committed(shop) == before, "nobody jumped over the gap"
    assert len(shop.ids()) == 80
    reset_group(shop, first)
    worker = shop.start_worker()
    eventually(lambda: len(shop.ids()) == 84)
    books = json.loads(shop.command("audit", "--json").stdout)
    assert (books["balanced"], books["produced"], books["completed"]) == (True, 4, 4), "of what the log still holds"


def test_row_29_retention_that_overtakes_a_running_worker_stops_it(shop: Shop) -> None:
    """The worker is stopped for a moment, shorter than its session, as one that is far behind would be overtaken."""
    worker = shop.start_worker()
    shop.place(80, customers=40)
    eventually(lambda: len(shop.ids()) == 80)
    worker.send_signal(signal.SIGSTOP)
    shop.place(80, customers=40, first=80)  # the fetch that waits is answered with these
    shop.place(400, customers=40, first=160)
    first = remove_all_but_the_last(shop)
    worker.send_signal(signal.SIGCONT)
    assert shop.topic in ends_and_says_so(shop, worker)
    after = committed(shop)
    assert all(after[tp] < first[tp] for tp in first), "nobody jumped over the gap"
    done = {(effect["partition"], effect["offset"]) for effect in shop.effects()}
    assert all((tp.partition, offset) in done for tp, end in after.items() for offset in range(end))


JUMPS = """
from broker_bridge.transport.kafka_consumer import KafkaConsumer
options = KafkaConsumer._options
KafkaConsumer._options = lambda self: options(self) | {"auto_offset_reset": "earliest"}
"""


def test_a_worker_that_passes_over_the_gap_would_be_seen(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the checks above can fail."""
    (shop.folder / "broken").mkdir()
    (shop.folder / "broken" / "sitecustomize.py").write_text(JUMPS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(shop.folder / "broken"), os.environ.get("PYTHONPATH", ""))))
    shop.place(80, customers=40)
    reset_group(shop, dict.fromkeys(remove_all_but_the_last(shop), 1))
    worker = shop.start_worker()
    eventually(lambda: len(shop.ids()) == 4)
    eventually(lambda: all(offset > 1 for offset in committed(shop).values()))
    assert worker.poll() is None
