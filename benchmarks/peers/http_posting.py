"""Posting one order to the service, as one writes it by hand: JSON, and the headers that the service reads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import aiohttp

from benchmarks.peers.avro import decode_order

CONCURRENCY = 32


def session() -> aiohttp.ClientSession:
    """As many kept connections as there are requests at once."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY))


async def post_all(client: aiohttp.ClientSession, url: str, records: Iterable[Any]) -> None:
    """``CONCURRENCY`` at a time."""
    rest = iter(records)

    async def post_some() -> None:
        for record in rest:
            await _post(client, url, record)

    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(post_some())


async def _post(client: aiohttp.ClientSession, url: str, record: Any) -> None:
    async with client.post(url, data=_body(record.value), headers=_headers(record)) as response:
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {await response.text()}")
        json.loads(await response.read())


def _body(value: bytes) -> bytes:
    order = decode_order(value)
    placed_at: datetime = order["placed_at"]
    order["placed_at"] = int(placed_at.timestamp() * 1000)
    return json.dumps(order).encode()


def _headers(record: Any) -> dict[str, str]:
    event = {name: value.decode() for name, value in record.headers}
    return {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": event["ce_id"],
        "ce-source": event["ce_source"],
        "ce-type": event["ce_type"],
        "ce-time": event["ce_time"],
        "ce-subject": event["ce_subject"],
        "Idempotency-Key": event["ce_id"],
        "bridge-attempt": "1",
        "bridge-crashes": "0",
        "bridge-token": "1",
        "bridge-origin": f"{record.topic}/{record.partition}/{record.offset}",
    }
