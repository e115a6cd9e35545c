"""The order service played in Python, for machines without Go: ``orders.py produce …``.

Same flags, records, manifest and summary as ``examples/orders``; which orders come of a seed differs. Like the
original it knows how the stream is to be broken: bytes that are no Avro, unknown schema ids, second sendings.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from broker_bridge.bootstrap import open_transport
from broker_bridge.cloudevents import event_headers, new_traceparent
from broker_bridge.config import config_from
from broker_bridge.contracts.codec import Codec
from broker_bridge.contracts.directory import SchemaDirectory
from broker_bridge.core.timestamps import rfc3339
from broker_bridge.errors import BridgeError
from broker_bridge.message import OutgoingRecord, Position

SUBJECT, SOURCE = "shop.OrderPlaced", "/shop/orders"
UNKNOWN_SCHEMA = 999_999
FRAME_BYTES = 5
BATCH_S = 0.05
EARLIEST_REPEAT, LATEST_REPEAT = 10, 200
DELIVERY_TIMEOUT_MS = 120_000


@dataclass(slots=True)
class Event:
    """One step of the stream. ``repeat`` is the second sending of an earlier event."""

    sequence: int
    kind: str
    version: int
    order: dict[str, Any]
    repeat: bool = False
    record: OutgoingRecord | None = None


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of ``orders produce``."""
    parser = argparse.ArgumentParser(prog="orders")
    commands = parser.add_subparsers(dest="command", required=True)
    produce = commands.add_parser("produce")
    produce.add_argument("--brokers", default="127.0.0.1:9092")
    produce.add_argument("--topic", default="orders.placed")
    produce.add_argument("--schemas", type=Path, default=Path("schemas"))
    produce.add_argument("--manifest", type=Path, required=True)
    for flag, default in {"count": 20_000, "customers": 500, "seed": 7}.items():
        produce.add_argument(f"--{flag}", type=int, default=default)
    for flag, default in {"poison-bytes": 20, "poison-schema-id": 20, "rejected": 40}.items():
        produce.add_argument(f"--{flag}", type=int, default=default)
    for flag, share in {"rate": 1_000.0, "deploy-v2-after": 0.5, "duplicates": 0.01}.items():
        produce.add_argument(f"--{flag}", type=float, default=share)
    produce.add_argument("--id-prefix", default="o")
    given = parser.parse_args(arguments)
    if given.poison_bytes + given.poison_schema_id + given.rejected > given.count:
        parser.error("more special events than events")
    return given


def draw_order(draw: random.Random, given: argparse.Namespace, sequence: int) -> dict[str, Any]:
    """One order, as JSON types; its ``placed_at`` is set when it is sent."""
    return {
        "order_id": f"{given.id_prefix}-{sequence:07}",
        "customer_id": f"customer-{draw.randrange(given.customers)}",
        "amount_cents": draw.randrange(100, 50_100),
        "currency": draw.choice(("EUR", "EUR", "EUR", "USD", "GBP", "OTHER")),
        "placed_at": 0,
        "note": draw.choice((None, None, None, "leave at the door", "z życzeniami 🎁")),
        "lines": [
            {"sku": f"SKU-{draw.randrange(1000):03}", "quantity": draw.randint(1, 5)} for _ in range(draw.randint(1, 3))
        ],
        "channel": draw.choice(("web", "app", "shop")),
    }


def stream(given: argparse.Namespace) -> Iterator[Event]:
    """The events in the order in which they are sent."""
    draw = random.Random(given.seed)
    special = ["rejected"] * given.rejected + ["poison-bytes"] * given.poison_bytes
    special += ["poison-schema-id"] * given.poison_schema_id
    kinds = dict(zip(draw.sample(range(1, given.count + 1), len(special)), special, strict=True))
    repeats = round(given.count * given.duplicates)
    twice = set(draw.sample(range(1, max(repeats, given.count - EARLIEST_REPEAT) + 1), repeats))
    due: dict[int, list[Event]] = {}
    for sequence in range(1, given.count + 1):
        version = 1 if sequence - 1 < given.deploy_v2_after * given.count else 2
        event = Event(sequence, kinds.get(sequence, "order"), version, draw_order(draw, given, sequence))
        if event.kind == "rejected":
            event.order["note"] = "card-declined"
        if sequence in twice:
            later = min(given.count, sequence + draw.randint(EARLIEST_REPEAT, LATEST_REPEAT))
            due.setdefault(later, []).append(event)
        yield event
        for first in due.pop(sequence, ()):
            yield Event(sequence, first.kind, first.version, first.order, repeat=True, record=first.record)


def make_record(event: Event, codec: Codec, topic: str, draw: random.Random) -> OutgoingRecord:
    """The record of a first sending, broken where the event asks for it."""
    now_ms = time.time_ns() // 1_000_000
    order = event.order
    order["placed_at"] = now_ms
    fields = order if event.version == 2 else {name: value for name, value in order.items() if name != "channel"}
    value = codec.encode_json_ready(SUBJECT, event.version, fields)
    if event.kind == "poison-schema-id":
        value = b"\0" + UNKNOWN_SCHEMA.to_bytes(4, "big") + value[FRAME_BYTES:]
    elif event.kind == "poison-bytes" and draw.random() < 0.5:
        value = value[: FRAME_BYTES + draw.randrange(len(value) - FRAME_BYTES)]
    elif event.kind == "poison-bytes":
        value = bytes([draw.randint(1, 255)]) + draw.randbytes(draw.randrange(64))
    headers = event_headers(
        event_id=order["order_id"],
        source=SOURCE,
        event_type=SUBJECT,
        time=rfc3339(now_ms),
        subject=order["customer_id"],
        traceparent=new_traceparent(),
    )
    return OutgoingRecord(topic, value, key=order["customer_id"].encode(), headers=headers)


def manifest_line(event: Event, place: Position) -> dict[str, Any]:
    """What is written down when Kafka has acknowledged a record."""
    return {
        "id": event.order["order_id"],
        "source": SOURCE,
        "kind": event.kind,
        "duplicate": event.repeat,
        "key": event.order["customer_id"],
        "partition": place.partition,
        "offset": place.offset,
        "schema_version": event.version,
        "amount_cents": 0 if event.kind.startswith("poison") else event.order["amount_cents"],
    }


class Tally:
    """The summary: what Kafka acknowledged."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.started_s = given, time.monotonic()
        self.events = self.repeats = self.amount_cents = 0
        self.kinds: Counter[str] = Counter()
        self.versions: Counter[str] = Counter()

    def count(self, event: Event) -> None:
        if event.repeat:
            self.repeats += 1
            return
        self.events += 1
        self.kinds[event.kind] += 1
        self.versions[str(event.version)] += 1
        self.amount_cents += event.order["amount_cents"] if event.kind == "order" else 0

    def summary(self, *, interrupted: bool) -> dict[str, Any]:
        elapsed_s, records = time.monotonic() - self.started_s, self.events + self.repeats
        return {
            "topic": self.given.topic,
            "events": self.events,
            "duplicates": self.repeats,
            "records": records,
            "kinds": dict(self.kinds),
            "schema_versions": dict(self.versions),
            "amount_cents": self.amount_cents,
            "planned_records": self.given.count + round(self.given.count * self.given.duplicates),
            "elapsed_s": elapsed_s,
            "records_per_s": records / elapsed_s,
            "interrupted": interrupted,
            "seed": self.given.seed,
        }


async def produce(given: argparse.Namespace) -> int:
    """Send the stream at its rate, in small batches, and return the exit status."""
    stopped = asyncio.Event()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(wanted, stopped.set)
    config = config_from({"bridge": {"schemas": str(given.schemas)}, "kafka": {"bootstrap": given.brokers}})
    codec, draw = Codec(SchemaDirectory(given.schemas)), random.Random(given.seed + 1)
    producer = open_transport(config).producer(delivery_timeout_ms=DELIVERY_TIMEOUT_MS)
    await producer.start()
    tally = Tally(given)
    try:
        with given.manifest.open("w", encoding="utf-8") as manifest:
            batch: list[Event] = []
            for event in stream(given):
                event.record = event.record or make_record(event, codec, given.topic, draw)
                batch.append(event)
                if len(batch) >= max(1, given.rate * BATCH_S):
                    await _send(producer, batch, manifest, tally)
                    batch = []
                    await _keep_pace(tally, given.rate)
                if stopped.is_set():
                    break
            await _send(producer, batch, manifest, tally)
    finally:
        await producer.stop()
    print(json.dumps(tally.summary(interrupted=stopped.is_set())), flush=True)
    return 130 if stopped.is_set() else 0


async def _send(producer: Any, batch: list[Event], manifest: TextIO, tally: Tally) -> None:
    answers = await producer.send_batch([event.record for event in batch])
    for event, answer in zip(batch, answers, strict=True):
        if isinstance(answer, BridgeError):
            raise answer
        manifest.write(json.dumps(manifest_line(event, answer)) + "\n")
        tally.count(event)
    manifest.flush()


async def _keep_pace(tally: Tally, rate: float) -> None:
    ahead_s = tally.started_s + tally.events / rate - time.monotonic() if rate > 0 else 0.0
    if ahead_s > 0:
        await asyncio.sleep(ahead_s)


def main() -> int:
    """Run one command line."""
    given = options()
    try:
        return asyncio.run(produce(given))
    except BridgeError as error:
        print(f"orders produce: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
