"""A service that takes single messages and batches, and what it was sent; messages and contexts for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web
from http_labs import MESSAGE, server, target_at

from broker_bridge.consumer import Context
from broker_bridge.message import Message
from broker_bridge.worker.targets.http import HttpEndpointTarget


def context(attempt: int, *, crashes: int = 0, token: int = 9) -> Context:
    return Context(attempt=attempt, crashes=crashes, token=token, group="payments", deadline_ms=0)


FIRST, AGAIN = context(1), context(2)
BATCH_TYPE = "application/cloudevents-batch+json"


def message(number: int, **changes: Any) -> Message[Any]:
    return replace(MESSAGE, value={"n": number}, idempotency_key=f"k-{number}", event_id=f"o-{number}", **changes)


def messages(count: int) -> list[Message[Any]]:
    return [message(number) for number in range(count)]


@dataclass
class Service:
    """What a target that takes both forms was sent."""

    batches: list[list[dict[str, Any]]] = field(default_factory=list)
    singles: list[str] = field(default_factory=list)
    attempts: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


ToBatch = Callable[[list[dict[str, Any]]], web.StreamResponse]


def taken(events: list[dict[str, Any]]) -> web.StreamResponse:
    """Every event is done; its result is the number twice. In no particular order."""
    return web.json_response(
        [{"idempotencykey": e["idempotencykey"], "status": 200, "result": e["data"]["n"] * 2} for e in events[::-1]]
    )


def all_of(status: int, body: Any = None, **headers: str) -> ToBatch:
    return lambda _: web.json_response(body, status=status, headers=headers)


def in_turn(*answers: ToBatch) -> ToBatch:
    left = list(answers)

    def answer(events: list[dict[str, Any]]) -> web.StreamResponse:
        return left.pop(0)(events)

    return answer


@asynccontextmanager
async def service(
    to_batch: ToBatch = taken, *, poison: int | None = None, **options: Any
) -> AsyncIterator[tuple[HttpEndpointTarget, Service]]:
    """A target that speaks to a service: batches are answered so, single messages are done, but for the poison."""
    found = Service()

    async def answer(request: web.Request) -> web.StreamResponse:
        found.headers.append(dict(request.headers))
        body = json.loads(await request.read())
        if request.headers["content-type"] == BATCH_TYPE:
            found.batches.append(body)
            return to_batch(body)
        found.singles.append(request.headers["idempotency-key"])
        found.attempts.append(request.headers["bridge-attempt"])
        if body is not None and body["n"] == poison:
            return web.json_response({"code": "poison"}, status=422)
        return web.json_response("alone")

    defaults = {"batch": 50, "concurrency": 100, "timeout": "30s"}
    async with server(answer) as (url, _), target_at(url, **(defaults | options)) as target:
        yield target, found


async def outcomes(target: HttpEndpointTarget, given: list[Message[Any]], context: Context = FIRST) -> list[Any]:
    """What each comes to: an answer, or the error."""
    return await asyncio.gather(*(target.deliver(each, context) for each in given), return_exceptions=True)
