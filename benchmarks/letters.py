"""A dead-letter topic as a bad night leaves it: letters of about 1 KB, and for each the claim that a worker leaves.

Ten kinds of failure, ten messages a record key. Letters are written and claims settled by what workers use for it.
"""

from __future__ import annotations

import asyncio
import os
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from benchmarks.job import BATCH, ORDER, PARTITIONS, Job, open_contracts, order
from benchmarks.lab import in_batches
from benchmarks.scenario import WrongWorkError
from broker_bridge.bootstrap import open_store, open_transport
from broker_bridge.cloudevents import event_headers
from broker_bridge.config import BridgeConfig
from broker_bridge.core.claim import (
    ClaimRequest,
    ClaimStatus,
    SettleKind,
    Settlement,
    SettleStatus,
    pack_origin,
    pack_place,
)
from broker_bridge.core.dead_letter import Failure, write_dead_letter
from broker_bridge.core.identity import claim_key_in, payload_fingerprint
from broker_bridge.core.timestamps import rfc3339
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.message import Position, Record
from broker_bridge.replay.route import ReplayRoute
from broker_bridge.transport.base import BatchProducer
from broker_bridge.worker.topics import ensure_topics

KINDS = (
    ("target_rejected", "voucher_unknown"),
    ("target_rejected", "card_expired"),
    ("target_rejected", "limit_exceeded"),
    ("target_rejected", "customer_blocked"),
    ("handler_failed", "ZeroDivisionError"),
    ("handler_failed", "KeyError"),
    ("handler_failed", "TimeoutError"),
    ("delivery_failed", "500"),
    ("target_timeout", ""),
    ("deadline_passed", ""),
)
"""Code and target's code of each kind of failure, about as many letters of each."""
FILTERED = "target_timeout"
"""The code that a filter asks for: one kind of the ten."""
KEY_EVERY = 10
"""Letters to a record key."""
NOTE = "What a customer writes when an order matters to them. " * 17
START_MS = 1_790_000_000_000
LEASE_MS = 600_000


@dataclass
class Letters:
    """What was written: the kind of failure at each offset of each partition, and what must arrive in a lane."""

    route: ReplayRoute
    kinds: list[bytearray] = field(default_factory=lambda: [bytearray() for _ in range(PARTITIONS)])
    digests: array[int] = field(default_factory=lambda: array("q"))

    @property
    def count(self) -> int:
        """All of them."""
        return len(self.digests)

    def by_kind(self) -> Counter[tuple[str, str]]:
        """How many of each kind."""
        counted = sum((Counter(kinds) for kinds in self.kinds), Counter[int]())
        return Counter({KINDS[kind]: number for kind, number in counted.items()})

    def places(self, code: str = "") -> Iterator[tuple[int, int]]:
        """Partition and offset of each letter, or of those with that error code."""
        wanted = {number for number, kind in enumerate(KINDS) if code in ("", kind[0])}
        for partition, kinds in enumerate(self.kinds):
            yield from ((partition, offset) for offset, kind in enumerate(kinds) if kind in wanted)


def digest(record: Record) -> int:
    """A number that stands for a record's partition, key and value."""
    whole = b"%d|%s|%s" % (record.partition, record.key or b"", record.value or b"")
    return int.from_bytes(payload_fingerprint(whole), "big", signed=True)


def fill(job: Job) -> Letters:
    """Make the route's topics and fill its dead-letter topic with ``job.records`` letters."""
    return asyncio.run(_fill(job, job.config()))


async def _fill(job: Job, config: BridgeConfig) -> Letters:
    transport, store = open_transport(config), open_store(config)
    admin, producer = transport.admin(), transport.producer()
    letters = Letters(ReplayRoute.of(config.routes[0]))
    await admin.start()
    await ensure_topics(admin, config.routes, partitions=PARTITIONS, replication=1)
    await admin.stop()
    await store.start()
    await producer.start()
    try:
        await write(job, letters, store, producer)
    finally:
        await producer.stop()
        await store.stop()
    return letters


async def write(job: Job, letters: Letters, store: IdempotencyStore, producer: BatchProducer) -> None:
    """``job.records`` messages die; the dead-letter topic is empty before."""
    for records in in_batches(_messages(job), BATCH):
        await _die(records, letters, store, producer)


def _messages(job: Job) -> Iterator[Record]:
    """The messages as they were in the source topic."""
    codec, offsets, keys = open_contracts(), [count() for _ in range(PARTITIONS)], max(1, job.records // KEY_EVERY)
    for number in range(job.records):
        partition = number % keys % PARTITIONS
        value: dict[str, Any] = order(number) | {"customer_id": f"customer-{number % keys:06d}", "note": NOTE}
        headers = event_headers(
            event_id=value["order_id"],
            source="/bench",
            event_type=ORDER,
            time=rfc3339(value["placed_at"]),
            subject=value["customer_id"],
        )
        yield Record(
            job.source,
            partition,
            next(offsets[partition]),
            value["placed_at"],
            value["customer_id"].encode(),
            codec.encode(ORDER, None, value),
            headers,
        )


async def _die(records: list[Record], letters: Letters, store: IdempotencyStore, producer: BatchProducer) -> None:
    """Claim, write the dead letters, settle: what a worker does with messages that cannot be handled."""
    route, first = letters.route, letters.count
    requests = [
        ClaimRequest(
            claim_key_in(dict(record.headers), record.position, namespace=route.topic),
            os.urandom(8),
            payload_fingerprint(record.value),
            pack_origin(*record.position),
        )
        for record in records
    ]
    claimed = await store.claim(route.group, requests, lease_ms=LEASE_MS)
    kinds = [number // 3 % len(KINDS) for number in range(first, first + len(records))]
    outgoing = [
        write_dead_letter(
            record,
            topic=route.dead_letter_topic,
            origin=record.position,
            timestamp_ms=record.timestamp_ms,
            group=route.group,
            service="bench",
            failure=_failure(kind, record.timestamp_ms + 5_000),
            include_message=False,
        )
        for record, kind in zip(records, kinds, strict=True)
    ]
    settlements = []
    places = await producer.send_batch(outgoing)
    for request, answer, place, record, kind in zip(requests, claimed, places, records, kinds, strict=True):
        if answer.status is not ClaimStatus.GRANTED or not isinstance(place, Position):
            raise WrongWorkError(f"no dead letter of {record.position}: {answer.status.name}, {place}")
        if place.offset != len(letters.kinds[place.partition]):
            raise WrongWorkError(f"the dead-letter topic was not empty: {place}")
        letters.kinds[place.partition].append(kind)
        letters.digests.append(digest(record))
        detail = pack_place(place.partition, place.offset)
        settlements.append(Settlement(request.key, request.nonce, answer.token, SettleKind.DEAD, 3, detail, tries=3))
    if set(await store.settle(route.group, settlements, ttl_ms=route.claim_ttl_ms)) != {SettleStatus.OK}:
        raise WrongWorkError("a claim was not settled")


def _failure(kind: int, now_ms: int) -> Failure:
    code, target_code = KINDS[kind]
    return Failure(code, "BridgeError", "", target_code, attempts=3, first_ms=now_ms, last_ms=now_ms + 700)
