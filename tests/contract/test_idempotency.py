"""Every idempotency store keeps the same promises (docs/reliability.md, claim state machine)."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
from claim_checks import CHECKS, Check
from claim_labs import Lab, MemoryLab, RedisLab
from redis.asyncio import Redis

from broker_bridge.idempotency.redis import RedisStore
from broker_bridge.stack.redis_server import RedisServer


@pytest.fixture(params=["memory", "redis", "redis in 4 buckets"])
async def lab(request: pytest.FixtureRequest, own_redis: RedisServer, raw: Redis) -> AsyncIterator[Lab]:
    """Each store there is, started."""
    if request.param == "memory":
        memory = MemoryLab()
        await memory.store.start()
        yield memory
        return
    store = RedisStore(own_redis.url, buckets=4 if "4" in request.param else 1)
    await store.start()
    yield RedisLab(store, raw, f"payments-{uuid.uuid4().hex[:8]}")
    await store.stop()


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
async def test_store(lab: Lab, check: Check) -> None:
    await check(lab)
