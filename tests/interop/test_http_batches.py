"""Batches to the Rust service of the examples: by the target alone, and by a worker on a real Kafka and Redis."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from test_languages import SCHEMAS

from broker_bridge import Event, Message, Position
from broker_bridge.bootstrap import make_worker, open_producer, open_transport
from broker_bridge.clock import SystemClock
from broker_bridge.config import BridgeConfig, config_from
from broker_bridge.config.route import HttpTarget
from broker_bridge.consumer import Context
from broker_bridge.errors import RejectedError, RetryLaterError
from broker_bridge.transport.base import TopicSpec
from broker_bridge.worker.targets.http import HttpEndpointTarget
from broker_bridge.worker.targets.http_batch_form import Done
from broker_bridge.worker.topics import ensure_lanes

WITHIN_S = 60
CUSTOMERS = 25


@contextmanager
def serving(program: Path, log: Path) -> Iterator[str]:
    """The service on a free port; the answer is its URL."""
    command = [str(program), "serve", "--listen", "127.0.0.1:0", "--log", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://[\d.:]+", process.stdout.readline())
            assert found is not None
            yield f"{found[0]}/payments"
        finally:
            process.kill()


def order(number: int, **changed: Any) -> dict[str, Any]:
    return {
        "order_id": f"o-{number:04d}",
        "customer_id": f"c{number % CUSTOMERS}",
        "amount_cents": 100 + number,
        "currency": "EUR",
        "placed_at": 1_790_000_000_000 + number,
        "note": None,
        "lines": [{"sku": "A", "quantity": 1}],
        "channel": "web",
        **changed,
    }


def message(number: int, **changed: Any) -> Message[Any]:
    return Message(
        value=order(number, **changed),
        key=b"k",
        headers=(),
        origin=Position("orders.placed", 2, number),
        timestamp_ms=0,
        idempotency_key=f"/shop#o-{number:04d}",
        event_id=f"o-{number:04d}",
        event_source="/shop",
        event_type="shop.OrderPlaced",
    )


def effects(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


async def test_the_service_answers_each_event_of_a_batch(payments: Path, tmp_path: Path) -> None:
    log = tmp_path / "effects.ndjson"
    with serving(payments, log) as url:
        config = HttpTarget.model_validate({"kind": "http", "url": url, "batch": 100})
        target = HttpEndpointTarget(config, concurrency=100, clock=SystemClock())
        await target.start()
        try:

            async def together(messages: list[Message[Any]], token: int) -> list[Any]:
                context = Context(attempt=1, crashes=0, token=token, group="payments", deadline_ms=0)
                return await asyncio.gather(*[target._batches.add(each, context) for each in messages])

            first = await together(
                [*map(message, range(40)), message(40, note="card-declined"), message(41, currency=None)], 7
            )
            again = await together([message(0), message(1, amount_cents=1), message(42)], 8)
            stale = await together([message(0), message(43)], 6)
        finally:
            await target.stop()
    assert all(isinstance(result, Done) for result in first[:40]), first
    assert [result.value["payment_id"] for result in first[:40]] == [f"p-o-{number:04d}" for number in range(40)]
    assert [(type(error), error.target_code) for error in first[40:]] == [
        (RejectedError, "card_declined"),
        (RejectedError, "request_invalid"),
    ]
    assert again[0] == first[0], "a repeat gets the stored answer"
    assert (type(again[1]), again[1].target_code) == (RejectedError, "key_conflict")
    assert (type(stale[0]), stale[0].target_code) == (RetryLaterError, "stale_token")
    assert [entry["kind"] for entry in effects(log)] == (
        ["applied"] * 40 + ["refused", "repeat", "refused", "applied", "fenced", "applied"]
    )


def settings(bootstrap: str, redis_url: str, prefix: str, url: str) -> BridgeConfig:
    return config_from(
        {
            "bridge": {"schemas": str(SCHEMAS), "service": "test"},
            "kafka": {"bootstrap": bootstrap},
            "redis": {"url": redis_url, "prefix": prefix},
            "health": {"listen": "off"},
            "producer": {"source": "/shop"},
            "route": [
                {
                    "name": f"{prefix}-payments",
                    "topic": f"{prefix}.orders",
                    "concurrency": 64,
                    "commit_interval": "100ms",
                    "contract": {"subject": "shop.OrderPlaced"},
                    "target": {"kind": "http", "url": url, "batch": 16, "timeout": "10s"},
                    "output": {"topic": f"{prefix}.captured", "subject": "shop.PaymentCaptured"},
                    "retry": {"in_place": 10, "base": "10ms", "lanes": ["1s"], "budget": 10},
                }
            ],
        }
    )


async def test_a_worker_delivers_batches_once_each_in_order_through_errors(
    payments: Path, tmp_path: Path, kafka_bootstrap: str, redis_url: str, unique: str
) -> None:
    log = tmp_path / "effects.ndjson"
    with serving(payments, log) as url:
        config = settings(kafka_bootstrap, redis_url, unique, url)
        (route,) = config.routes
        admin = open_transport(config).admin()
        await admin.start()
        try:
            await admin.ensure([TopicSpec(route.topic, 4), TopicSpec(f"{unique}.captured", 4)])
            await ensure_lanes(admin, route, replication=1)
        finally:
            await admin.stop()
        await _switch(url, error_rate=0.1)
        await _place(config, [*range(300), *range(20)])
        worker = make_worker(config)
        running = asyncio.create_task(worker.run())
        try:
            async with asyncio.timeout(WITHIN_S):
                while _committed(worker.routes[0].details(), route.topic) < 320:
                    await asyncio.sleep(0.05)
        finally:
            worker.stop()
            await running
    _judge(effects(log))


async def _switch(url: str, **switches: float) -> None:
    command = ["curl", "-sf", url.replace("/payments", "/control"), "-d", json.dumps(switches)]
    done = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
    assert await done.wait() == 0


async def _place(config: BridgeConfig, numbers: list[int]) -> None:
    """Order 150 is declined."""
    async with open_producer(config) as producer:
        placed = await producer.send_batch(
            [
                Event(
                    topic=config.routes[0].topic,
                    value=order(number, **({"note": "card-declined"} if number == 150 else {})),
                    contract="shop.OrderPlaced",
                    key=f"c{number % CUSTOMERS}",
                    event_id=f"o-{number:04d}",
                )
                for number in numbers
            ]
        )
    assert all(isinstance(position, Position) for position in placed)


def _committed(details: Any, topic: str) -> int:
    """How many records of the source are done."""
    parts = details["partitions"].items()
    return sum(state["committed"] or 0 for name, state in parts if name.rpartition("/")[0] == topic)


def _judge(entries: list[dict[str, Any]]) -> None:
    applied = [entry for entry in entries if entry["kind"] == "applied"]
    assert sorted(entry["order_id"] for entry in applied) == [f"o-{n:04d}" for n in range(300) if n != 150]
    assert {entry["order_id"] for entry in entries if entry["kind"] == "refused"} == {"o-0150"}
    assert any(entry["attempt"] > 1 for entry in applied), "errors came, and it was tried again"
    for customer in range(CUSTOMERS):
        own = [entry["order_id"] for entry in applied if entry["customer_id"] == f"c{customer}"]
        assert own == sorted(own), "in the order of the log"
