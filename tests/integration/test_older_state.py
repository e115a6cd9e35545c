"""Row 50: a worker of today meets what the first release left behind in Redis and Kafka, and what a later one would.

Everything older is written here byte by byte, not by today's code: a change of a layout or of a name makes these fail.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from worker_process import Shop, eventually

from broker_bridge.bootstrap import open_transport
from broker_bridge.config import load_config
from broker_bridge.message import OutgoingRecord, Position, Record

IN_PROGRESS, RETRY, COMPLETED, DEAD = 1, 2, 3, 4
LONG_AGO_MS = 1_700_000_000_000


def claim_of_1(
    origin: Position, state: int, *, attempt: int = 0, copy_attempt: int = 0, crashes: int = 0, tries: int = 0
) -> bytes:
    """A claim as layout version 1 has it."""
    at = struct.pack(">IIQ", zlib.crc32(origin.topic.encode()), origin.partition, origin.offset)
    settled_ms = 0 if state == IN_PROGRESS else LONG_AGO_MS
    return struct.pack(
        ">BBHHHH8sQQ8s8s16sQ", 1, state, attempt, copy_attempt, crashes, tries, b"nonce..1", 1_700_000_000_000_000,
        LONG_AGO_MS, bytes(8), bytes(8), at, settled_ms,
    )  # fmt: skip


@pytest.fixture
def shop(tmp_path: Path, kafka_bootstrap: str, redis_url: str, unique: str) -> Iterator[Shop]:
    made = Shop(tmp_path, kafka_bootstrap, redis_url, unique)
    made.make_topics()
    yield made
    made.close()


def claim_name(shop: Shop, order: int) -> bytes:
    """The Redis key of an order's claim: prefix, bucket, group, and the hash of topic and idempotency key."""
    topic = shop.topic.encode()
    hashed = len(topic).to_bytes(4, "big") + topic + b"test-worker#o-%05d" % order
    return f"{shop.name}:{{0}}:{shop.name}:".encode() + hashlib.blake2b(hashed, digest_size=16).digest()


def write_claims(shop: Shop, claims: dict[int, bytes]) -> None:
    with redis.Redis.from_url(shop.redis) as client:
        for order, claim in claims.items():
            client.set(claim_name(shop, order), claim, ex=3_600)


def left_in_kafka(shop: Shop, copies: dict[str, tuple[Position, dict[str, str]]]) -> None:
    """Copies of records in topics of the group, with headers as given."""

    async def write() -> None:
        transport = open_transport(load_config(shop.config_path, {}))
        reader, producer = transport.reader(), transport.producer()
        await reader.start()
        await producer.start()
        try:
            found = await reader.fetch([origin for origin, _ in copies.values()])
            records = [
                copy_of(record, f"{shop.name}.{shop.topic}.{lane}", origin, headers)
                for record, (lane, (origin, headers)) in zip(found, copies.items(), strict=True)
                if record is not None
            ]
            answers = await producer.send_batch(records)
            assert all(isinstance(answer, Position) for answer in answers)
        finally:
            await producer.stop()
            await reader.stop()

    asyncio.run(write())


def copy_of(record: Record, topic: str, origin: Position, headers: dict[str, str]) -> OutgoingRecord:
    added = [("bridge-origin", str(origin).encode()), *((name, text.encode()) for name, text in headers.items())]
    return OutgoingRecord(topic, record.value, record.key, [*record.headers, *added], origin.partition)


def test_row_50_what_the_first_release_left_is_understood(shop: Shop) -> None:
    origins = shop.place(5, customers=5)
    write_claims(
        shop,
        {
            0: claim_of_1(origins[0], COMPLETED, tries=1),
            1: claim_of_1(origins[1], DEAD, attempt=2, tries=2) + struct.pack(">IQ", origins[1].partition, 0),
            2: claim_of_1(origins[2], IN_PROGRESS, attempt=1, crashes=1, tries=1),
            3: claim_of_1(origins[3], RETRY, attempt=1, copy_attempt=1, tries=1),
        },
    )
    left_in_kafka(
        shop,
        {
            "retry-1s": (origins[3], {"bridge-group": shop.name, "bridge-attempt": "1", "bridge-due-ms": "1"}),
            "dlq": (origins[1], {"bridge-group": shop.name, "bridge-error-code": "target_rejected"}),
        },
    )
    shop.start_worker()
    eventually(lambda: len(shop.ids()) == 3)
    eventually(lambda: json.loads(shop.command("audit", "--json", expect=None).stdout)["completed"] == 4)
    found = {effect["id"]: (effect["attempt"], effect["crashes"]) for effect in shop.effects()}
    assert found == {"o-00002": (2, 2), "o-00003": (2, 0), "o-00004": (1, 0)}, "and neither what was done nor the dead"
    shop.command("replay", "plan", "--why", "from before the upgrade", "--out", "old.plan")
    shop.command("replay", "run", "old.plan", "--execute", "--yes")
    eventually(lambda: "o-00001" in shop.ids())
    assert len(shop.effects()) == 4
    assert json.loads(shop.command("audit", "--json").stdout)["balanced"]


def test_row_50_what_a_later_release_wrote_is_left_alone(shop: Shop) -> None:
    """As after going back to an earlier release: nobody can tell whether the message may run, so it does not."""
    (origin, _) = shop.place(2)
    later = b"\x02" + claim_of_1(origin, COMPLETED)[1:] + b"something more"
    write_claims(shop, {0: later})
    worker = shop.start_worker()
    eventually(lambda: shop.ids() == {"o-00001"})
    eventually(lambda: "claim_unreadable" in {line.get("code") for line in shop.log_of(worker)})
    (dead,) = [line for line in shop.log_of(worker) if line["event"] == "message_dead_lettered"]
    assert (dead["code"], dead["partition"], dead["offset"]) == ("claim_unreadable", origin.partition, origin.offset)
    with redis.Redis.from_url(shop.redis) as client:
        assert client.get(claim_name(shop, 0)) == later
        client.delete(claim_name(shop, 0))  # the remedy, for one that is known not to matter
    eventually(lambda: "claim_unreadable" in shop.command("dlq", "list", "--json").stdout)
    shop.command("replay", "plan", "--why", "never done", "--allow-expired", "--out", "known.plan")
    shop.command("replay", "run", "known.plan", "--execute", "--yes")
    eventually(lambda: shop.ids() == {"o-00000", "o-00001"})
    assert worker.poll() is None
