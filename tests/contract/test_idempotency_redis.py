"""What only a real Redis can do to us: forget scripts, restart, hang, run full, evict, hold other people's values."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from claim_calls import DAY_MS, LONG_MS, a_request, claim, granted, key, settle, view
from claim_labs import RedisLab
from redis.asyncio import Redis

from broker_bridge.core.claim import ClaimState, ClaimStatus, Held, SettleKind, Settlement, SettleStatus, StoredClaim
from broker_bridge.errors import ClaimUnreadableError, StoreError, UnsafeSettingsError
from broker_bridge.idempotency.redis import MAX_KEYS_A_SCRIPT, RedisStore
from broker_bridge.stack.redis_server import RedisServer

SECRET = "s3cret-canary"


@pytest.fixture
async def lab(own_redis: RedisServer, raw: Any) -> AsyncIterator[RedisLab]:
    """A store that has one connection, gives up soon, and does not try again."""
    store = RedisStore(own_redis.url, connections=1, call_timeout_ms=300, connect_timeout_ms=300, retries=0)
    await store.start()
    yield RedisLab(store, raw, f"payments-{uuid.uuid4().hex[:8]}")
    await store.stop()


@contextlib.asynccontextmanager
async def setting(raw: Any, name: str, value: str) -> AsyncIterator[None]:
    before = (await raw.config_get(name))[name]
    await raw.config_set(name, value)
    try:
        yield
    finally:
        await raw.config_set(name, before)


@contextlib.contextmanager
def paused(server: RedisServer) -> Iterator[None]:
    server.kill(signal.SIGSTOP)
    try:
        yield
    finally:
        server.kill(signal.SIGCONT)


def stored_key(lab: RedisLab, name: object = "order-1") -> bytes:
    return f"bb:{{0}}:{lab.group}:".encode() + key(name)


async def test_lua_and_python_keep_the_same_bytes(lab: RedisLab) -> None:
    for kind in (None, *SettleKind):
        request = a_request(kind, attempt=258, replay=b"replay-1")
        token = await granted(lab, request)
        if kind:
            assert await settle(lab, request, token, kind, attempt=3, detail=b"\0detail", tries=772) is SettleStatus.OK
        value = await lab.raw.get(stored_key(lab, kind))
        assert StoredClaim.decode(value).encode() == value
        assert StoredClaim.decode(value).view() == await view(lab, request)
        assert len(value) == 74 + (7 if kind in (SettleKind.COMPLETE, SettleKind.DEAD) else 0)


async def test_expiry_is_set_with_every_write(lab: RedisLab) -> None:
    request = a_request()
    token = await granted(lab, request)
    assert DAY_MS - 5_000 < await lab.raw.pttl(stored_key(lab)) <= DAY_MS
    assert await settle(lab, request, token, SettleKind.COMPLETE, ttl_ms=90_000) is SettleStatus.OK
    assert 85_000 < await lab.raw.pttl(stored_key(lab)) <= 90_000


async def test_a_batch_is_one_call(lab: RedisLab) -> None:
    await claim(lab, a_request("warm"))
    before = (await lab.raw.info("commandstats"))["cmdstat_evalsha"]["calls"]
    await lab.store.claim(lab.group, [a_request(number) for number in range(2_000)], lease_ms=LONG_MS)
    assert (await lab.raw.info("commandstats"))["cmdstat_evalsha"]["calls"] == before + 1


async def test_a_batch_beyond_one_script_keeps_its_order(lab: RedisLab) -> None:
    requests = [a_request(number % (MAX_KEYS_A_SCRIPT + 10)) for number in range(MAX_KEYS_A_SCRIPT + 20)]
    answers = await lab.store.claim(lab.group, requests, lease_ms=LONG_MS)
    expected = [ClaimStatus.GRANTED] * (MAX_KEYS_A_SCRIPT + 10) + [ClaimStatus.BUSY] * 10
    assert [answer.status for answer in answers] == expected


async def test_flushed_scripts_are_loaded_again(lab: RedisLab) -> None:
    request = a_request()
    await lab.raw.script_flush()
    token = await granted(lab, request)
    await lab.raw.script_flush()
    assert await lab.store.renew(lab.group, [Held(request.key, request.nonce, token, 0)], lease_ms=LONG_MS) == [True]
    await lab.raw.script_flush()
    assert await settle(lab, request, token, SettleKind.COMPLETE) is SettleStatus.OK


async def test_a_restart_is_an_error_first_and_then_over(lab: RedisLab, own_redis: RedisServer) -> None:
    """Rows 33 and 35: refused while it is down; afterwards the same calls go through, on what was written before."""
    request, other = a_request(), a_request("order-2")
    token = await granted(lab, request)
    own_redis.stop()
    try:
        with pytest.raises(StoreError) as caught:
            await claim(lab, other)
        with pytest.raises(StoreError):
            await settle(lab, request, token, SettleKind.COMPLETE)
        assert caught.value.retriable
        assert caught.value.where == own_redis.url
    finally:
        own_redis.start()
    assert await settle(lab, request, token, SettleKind.COMPLETE, detail=b"kept") is SettleStatus.OK
    await granted(lab, other)
    assert (await claim(lab, a_request())).result == b"kept"


async def test_connections_cut_between_calls_are_not_noticed(lab: RedisLab) -> None:
    await granted(lab, a_request())
    await lab.raw.client_kill_filter(_type="normal", skipme=True)
    assert (await claim(lab, a_request())).status is ClaimStatus.BUSY


async def test_a_claim_whose_answer_was_lost_is_its_owners(lab: RedisLab, own_redis: RedisServer) -> None:
    """Row 34: the call timed out, Redis applied it nevertheless; the repeated call meets its own first try."""
    request = a_request()
    with paused(own_redis), pytest.raises(StoreError, match="Timeout"):
        await claim(lab, request)
    await until(lambda: lab.raw.exists(stored_key(lab)))
    applied = await view(lab, request)
    assert applied.state is ClaimState.IN_PROGRESS
    assert await granted(lab, request) == applied.token
    assert (await claim(lab, a_request())).status is ClaimStatus.BUSY


async def test_a_settlement_whose_answer_was_lost_is_repeated(lab: RedisLab, own_redis: RedisServer) -> None:
    """Row 35, and no W1: the repetition answers OK."""
    request = a_request()
    token = await granted(lab, request)
    with paused(own_redis), pytest.raises(StoreError):
        await settle(lab, request, token, SettleKind.COMPLETE, detail=b"once")
    assert await settle(lab, request, token, SettleKind.COMPLETE, detail=b"once") is SettleStatus.OK
    assert (await claim(lab, a_request())).result == b"once"


async def test_retries_outlast_a_short_outage(own_redis: RedisServer) -> None:
    store = RedisStore(own_redis.url, call_timeout_ms=300, retries=8)
    await store.start()
    own_redis.stop()
    call = asyncio.create_task(store.claim(f"g-{uuid.uuid4().hex}", [a_request()], lease_ms=LONG_MS))
    await asyncio.to_thread(own_redis.start)
    (answer,) = await call
    assert answer.status is ClaimStatus.GRANTED
    await store.stop()


async def test_a_cancelled_call_leaves_its_connection_in_step(lab: RedisLab, own_redis: RedisServer) -> None:
    """One connection: were the cancelled call's answer left in it, the next call would read that as its own."""
    await granted(lab, a_request("before"))
    with paused(own_redis):
        call = asyncio.create_task(claim(lab, a_request("cancelled")))
        await until(lambda: sent_to(lab))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert await lab.store.inspect(lab.group, [key("nowhere"), key("nowhere")]) == [None, None]
    assert (await view(lab, a_request("before"))).state is ClaimState.IN_PROGRESS
    await until(lambda: lab.raw.exists(stored_key(lab, "cancelled")))
    assert (await claim(lab, a_request("cancelled"))).status is ClaimStatus.BUSY


async def sent_to(lab: RedisLab) -> bool:
    """Whether the store's only connection is in use (its command is on the way)."""
    await asyncio.sleep(0)
    pool: Any = lab.store._link._pool  # type: ignore[attr-defined]
    return bool(pool._in_use_connections)


async def until(condition: Callable[[], Any], deadline_s: float = 5.0) -> None:
    deadline = time.monotonic() + deadline_s
    while not await condition():
        assert time.monotonic() < deadline, f"not within {deadline_s} s"
        await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    "value",
    [b"", b"\0" + bytes(73), b"\x02" + bytes(90), b"\x01\x01short", b"\x01\x01" + bytes(71), b"\x01\x07" + bytes(72)],
)
async def test_a_foreign_value_is_refused_and_kept(lab: RedisLab, value: bytes) -> None:
    """Row 50: another release's layout, or no claim at all. The batch is refused with the key's name, nothing is
    written."""
    await lab.raw.set(stored_key(lab), value)
    await refuses_all(lab)
    assert await lab.raw.get(stored_key(lab)) == value


async def test_a_value_of_another_type_is_refused_and_kept(lab: RedisLab) -> None:
    await lab.raw.rpush(stored_key(lab), "someone else's list")
    await refuses_all(lab)
    assert await lab.raw.llen(stored_key(lab)) == 1


async def refuses_all(lab: RedisLab) -> None:
    request, sound = a_request(), a_request("sound")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: lab.store.claim(lab.group, [sound, request], lease_ms=LONG_MS),
        lambda: lab.store.inspect(lab.group, [sound.key, request.key]),
    ]
    for call in calls:
        with pytest.raises(ClaimUnreadableError) as caught:
            await call()
        assert not caught.value.retriable
        assert caught.value.claim_key == request.key
        assert request.key.hex() in caught.value.where
        assert lab.group in caught.value.where
    assert await lab.store.inspect(lab.group, [sound.key]) == [None]
    await is_not_ours_any_more(lab)


async def is_not_ours_any_more(lab: RedisLab) -> None:
    """A claim that was overwritten while it was in hand: that one is lost, the others of the batch are not."""
    request, sound = a_request(), a_request("sound")
    token = await granted(lab, sound)
    held = [Held(one.key, one.nonce, token, 0) for one in (request, sound)]
    assert await lab.store.renew(lab.group, held, lease_ms=LONG_MS) == [False, True]
    settlements = [Settlement(one.key, one.nonce, token, SettleKind.COMPLETE) for one in (request, sound)]
    assert await lab.store.settle(lab.group, settlements, ttl_ms=DAY_MS) == [SettleStatus.STALE, SettleStatus.OK]


async def test_a_full_redis_refuses_and_keeps_what_it_has(lab: RedisLab) -> None:
    """Row 38: with noeviction a full Redis says no; nothing is dropped to make room."""
    request = a_request()
    token = await granted(lab, request)
    async with setting(lab.raw, "maxmemory", "1"):
        with pytest.raises(StoreError, match="OutOfMemory"):
            await claim(lab, a_request("order-2"))
    assert (await view(lab, request)).token == token
    assert await lab.store.inspect(lab.group, [key("order-2")]) == [None]


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_eviction_is_refused_unless_allowed_by_name(own_redis: RedisServer, raw: Any, policy: str) -> None:
    careless = RedisStore(own_redis.url, allow_unsafe=["eviction"])
    careful = RedisStore(own_redis.url)
    async with setting(raw, "maxmemory-policy", policy):
        with pytest.raises(UnsafeSettingsError, match=policy) as caught:
            await careful.start()
        assert "allow_eviction = true" in caught.value.remedy
        await careless.start()
    await careful.start()
    await careful.stop()
    await careless.stop()


async def test_writes_wait_for_replicas(start_redis: Callable[[], RedisServer]) -> None:
    """Row 36: with a replica the write is acknowledged; without it the call says that it may be lost."""
    master, replica = start_redis(), start_redis()
    store = RedisStore(master.url, wait_replicas=1, wait_timeout_ms=200)
    async with Redis.from_url(master.url) as plain, Redis.from_url(replica.url) as plain_replica:
        raw: Any = plain
        raw_replica: Any = plain_replica
        lab = RedisLab(store, raw, "payments")
        request = a_request()
        await raw.config_set("repl-diskless-sync-delay", 0)
        await store.start()
        with pytest.raises(StoreError, match="0 of 1 replicas"):
            await claim(lab, request)
        await raw_replica.execute_command("REPLICAOF", "127.0.0.1", str(master.port))
        await until(lambda: has_replica(raw))
        token = await granted(lab, request)
        assert await raw_replica.exists(stored_key(lab))
        assert await settle(lab, request, token, SettleKind.COMPLETE) is SettleStatus.OK
        with paused(replica), pytest.raises(StoreError, match="0 of 1 replicas"):
            await settle(lab, request, token, SettleKind.COMPLETE)
        misled = RedisStore(replica.url, retries=0)
        with pytest.raises(StoreError, match="read-only replica"):
            await claim(RedisLab(misled, raw, "payments"), a_request("order-2"))
        await misled.stop()
    await store.stop()
    replica.stop()
    master.stop()


async def has_replica(raw: Any) -> bool:
    information = await raw.info("replication")
    return bool(information["connected_slaves"]) and information["slave0"]["state"] == "online"


async def test_keys_share_the_slot_of_their_bucket(own_redis: RedisServer, raw: Any) -> None:
    store = RedisStore(own_redis.url, buckets=4, prefix=f"t{uuid.uuid4().hex}")
    await store.start()
    await store.claim("payments", [a_request(os.urandom(4)) for _ in range(64)], lease_ms=LONG_MS)
    found = [name async for name in raw.scan_iter(match=f"{store._prefix}:*", count=1000)]
    epochs = [name for name in found if name.endswith(b"}:epoch")]
    tags = {name[name.index(b"{") : name.index(b"}") + 1] for name in found}
    assert (len(found), tags) == (64 + 4, {b"{0}", b"{1}", b"{2}", b"{3}"})
    assert len(epochs) == 4
    assert {await raw.pttl(name) for name in epochs} == {-1}, "an epoch never expires"
    await store.stop()


async def test_a_tally_whose_answer_was_lost_is_not_counted_twice(lab: RedisLab, own_redis: RedisServer) -> None:
    store = RedisStore(own_redis.url, connections=1, call_timeout_ms=100, retries=3)
    await store.start()
    with paused(own_redis), pytest.raises(StoreError):
        await store.tally(lab.group, 1, 1, window_ms=LONG_MS)
    await store.stop()
    await until(lambda: tallied(lab))
    assert await lab.store.tally(lab.group, 1, 0, window_ms=LONG_MS) == (2, 1)


async def tallied(lab: RedisLab) -> bool:
    return await lab.store.tally(lab.group, 0, 0, window_ms=LONG_MS) == (1, 1)


async def test_a_tally_expires_and_a_foreign_value_under_it_is_refused_and_kept(lab: RedisLab) -> None:
    assert isinstance(lab.store, RedisStore)
    place = f"bb:{{0}}:budget:{lab.group}"
    await lab.store.tally(lab.group, 1, 1, window_ms=LONG_MS)
    assert LONG_MS < await lab.raw.pttl(place) <= LONG_MS + 1_000
    await lab.raw.set(place, b"someone else's")
    with pytest.raises(ClaimUnreadableError, match="not a tally") as caught:
        await lab.store.tally(lab.group, 1, 1, window_ms=LONG_MS)
    assert lab.group in caught.value.where
    assert await lab.raw.get(place) == b"someone else's"
    await lab.raw.delete(place)
    await lab.raw.rpush(place, "a list")
    with pytest.raises(ClaimUnreadableError):
        await lab.store.tally(lab.group, 1, 1, window_ms=LONG_MS)
