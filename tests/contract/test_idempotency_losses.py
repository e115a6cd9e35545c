"""Row 39 on a real Redis: what becomes of claims that are gone, and which losses can be seen."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from claim_calls import BUSY, DONE, GRANTED, a_request, claim, ended, granted
from claim_labs import RedisLab
from redis.asyncio import Redis

from broker_bridge.core.claim import SettleKind
from broker_bridge.errors import ClaimUnreadableError, StoreError
from broker_bridge.idempotency.redis import RedisStore
from broker_bridge.stack.redis_server import RedisServer

EPOCH = b"bb:{0}:epoch"


@contextlib.asynccontextmanager
async def worker(server: RedisServer, raw: Any, group: str, **options: Any) -> AsyncIterator[RedisLab]:
    """A store of its own, as each worker process has one."""
    store = RedisStore(server.url, **options)
    await store.start()
    try:
        yield RedisLab(store, raw, group)
    finally:
        await store.stop()


@pytest.fixture
def group() -> str:
    return f"payments-{uuid.uuid4().hex[:8]}"


async def test_every_worker_sees_each_loss_once(own_redis: RedisServer, raw: Any, group: str) -> None:
    async with worker(own_redis, raw, group) as first, worker(own_redis, raw, group, buckets=4) as second:
        for losses in (1, 2):
            await raw.flushall()
            for lab in (first, second, first, second):
                await claim(lab, a_request(uuid.uuid4()))
                assert lab.store.losses() == losses
            assert (first.store.losses(), second.store.losses()) == (losses, losses)
        async with worker(own_redis, raw, group) as late:
            await claim(late, a_request())
            assert late.store.losses() == 0, "it knew no claims that could have been lost"
        assert await raw.get(EPOCH), "who meets the loss makes the epoch anew"


async def test_a_restart_that_keeps_the_claims_is_no_loss(own_redis: RedisServer, raw: Any, group: str) -> None:
    """Stopped in order, then killed: the append-only file has both claims and epoch."""
    async with worker(own_redis, raw, group, retries=5) as lab:
        await ended(lab, a_request(), SettleKind.COMPLETE)
        epoch = await raw.get(EPOCH)
        for end in (own_redis.stop, lambda: own_redis.kill(signal.SIGKILL)):
            end()
            own_redis.start()
            assert (await claim(lab, a_request())).status is DONE
            assert lab.store.losses() == 0
            async with Redis.from_url(own_redis.url) as again:
                assert await again.get(EPOCH) == epoch


async def test_a_restart_without_its_data_is_a_loss(start_redis: Callable[[], RedisServer], group: str) -> None:
    server = start_redis()
    async with Redis.from_url(server.url) as raw, worker(server, raw, group, retries=5) as lab:
        await ended(lab, a_request(), SettleKind.COMPLETE)
        server.stop()
        shutil.rmtree(server.folder / "appendonlydir")
        server.start()
        assert (await claim(lab, a_request())).status is GRANTED
        assert (await claim(lab, a_request())).status is BUSY
        assert lab.store.losses() == 1
    server.stop()


async def test_a_call_whose_answer_was_lost_does_not_swallow_the_loss(
    own_redis: RedisServer, raw: Any, group: str
) -> None:
    """It makes the epoch anew, and nobody hears of it; the next call does."""
    async with worker(own_redis, raw, group, retries=0, call_timeout_ms=300) as lab:
        await raw.flushall()
        own_redis.kill(signal.SIGSTOP)
        try:
            with pytest.raises(StoreError, match="Timeout"):
                await claim(lab, a_request())
        finally:
            own_redis.kill(signal.SIGCONT)
        deadline = time.monotonic() + 5
        while not await raw.exists(EPOCH):
            assert time.monotonic() < deadline, "the call was never applied"
        assert lab.store.losses() == 0
        await claim(lab, a_request("order-2"))
        assert lab.store.losses() == 1


async def test_an_epoch_that_is_none_is_refused_and_kept(own_redis: RedisServer, raw: Any) -> None:
    prefix = f"t{uuid.uuid4().hex}"
    place = f"{prefix}:{{0}}:epoch"
    await raw.rpush(place, "someone else's list")
    store = RedisStore(own_redis.url, prefix=prefix)
    with pytest.raises(ClaimUnreadableError, match="WRONGTYPE") as caught:
        await store.start()
    assert caught.value.where == f"{own_redis.url} key {place}"
    assert await raw.llen(place) == 1
    await store.stop()


@contextlib.asynccontextmanager
async def failing_over(start_redis: Callable[[], RedisServer]) -> AsyncIterator[tuple[RedisServer, Any, Any]]:
    """A master and a replica that has caught up with it and was cut off."""
    master, replica = start_redis(), start_redis()
    async with Redis.from_url(master.url) as raw, Redis.from_url(replica.url) as raw_replica:
        await raw.config_set("repl-diskless-sync-delay", 0)
        await raw_replica.config_set("repl-diskless-sync-delay", 0)
        yield master, raw, raw_replica
    replica.stop()
    master.stop()


async def copy_of(master: Any, replica: Any) -> None:
    """``replica`` takes over the data of ``master``, then goes on alone."""
    settings = master.connection_pool.connection_kwargs
    await replica.execute_command("REPLICAOF", settings["host"], str(settings["port"]))
    deadline = time.monotonic() + 10
    while (await replica.info("replication"))["master_link_status"] != "up":
        assert time.monotonic() < deadline, "the replica did not catch up"
    await replica.execute_command("REPLICAOF", "NO", "ONE")


async def test_a_failover_to_a_data_set_from_before_a_loss_is_a_loss(
    start_redis: Callable[[], RedisServer], group: str
) -> None:
    """The address leads to what an old replica has: another epoch than the present one."""
    async with failing_over(start_redis) as (master, raw, replica), worker(master, raw, group) as lab:
        await ended(lab, a_request(), SettleKind.COMPLETE)
        await copy_of(raw, replica)
        await raw.flushall()
        await ended(lab, a_request("order-2"), SettleKind.COMPLETE)
        assert lab.store.losses() == 1
        await copy_of(replica, raw)
        assert (await claim(lab, a_request())).status is DONE, "the old claims are back"
        assert (await claim(lab, a_request("order-2"))).status is GRANTED, "the new ones are gone"
        assert lab.store.losses() == 2


async def test_a_loss_that_leaves_the_epoch_is_not_seen(start_redis: Callable[[], RedisServer], group: str) -> None:
    """The limit: a replica that lags has the epoch and lacks the latest claims (rows 36, 37). ``wait_replicas`` is the
    remedy, not this alarm."""
    async with failing_over(start_redis) as (master, raw, replica), worker(master, raw, group) as lab:
        await copy_of(raw, replica)
        token = await granted(lab, a_request())
        await copy_of(replica, raw)
        answer = await claim(lab, a_request())
        assert answer.status is GRANTED, "the first claim is gone"
        assert answer.token > token
        assert lab.store.losses() == 0
