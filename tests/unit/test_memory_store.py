"""The memory store's levers for rehearsing failures, and that it stays bounded. Its rules: tests/contract."""

from __future__ import annotations

import pytest

from broker_bridge.core.claim import ClaimRequest, ClaimStatus, Held, SettleKind, Settlement, SettleStatus
from broker_bridge.errors import StoreError
from broker_bridge.idempotency.memory import DAY_MS, Failure, MemoryStore


class HandClock:
    def __init__(self) -> None:
        self.at_ms = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.at_ms

    async def sleep_ms(self, delay_ms: float) -> None:
        self.at_ms += int(delay_ms)


def a_request(number: int = 0, nonce: bytes = b"nonce--1") -> ClaimRequest:
    return ClaimRequest(number.to_bytes(16, "big"), nonce, b"payload1", bytes(16))


async def claim(store: MemoryStore, request: ClaimRequest) -> ClaimStatus:
    return (await store.claim("g", [request], lease_ms=1_000))[0].status


async def test_planned_failures_come_in_order_and_end() -> None:
    store = MemoryStore(HandClock())
    store.fail_next(2)
    store.fail_next(how=Failure.ANSWER_LOST)
    for _ in range(2):
        with pytest.raises(StoreError, match="made to fail"):
            await claim(store, a_request())
    assert store.claims() == 0
    with pytest.raises(StoreError, match="answer lost"):
        await claim(store, a_request())
    assert store.claims() == 1
    assert await claim(store, a_request()) is ClaimStatus.GRANTED, "the same nonce meets its own first try"
    assert await claim(store, a_request(nonce=b"nonce--2")) is ClaimStatus.BUSY


async def test_a_settlement_whose_answer_was_lost_can_be_repeated() -> None:
    store = MemoryStore(HandClock())
    request = a_request()
    (answer,) = await store.claim("g", [request], lease_ms=1_000)
    settlement = Settlement(request.key, request.nonce, answer.token, SettleKind.COMPLETE)
    store.fail_next(how=Failure.ANSWER_LOST)
    with pytest.raises(StoreError):
        await store.settle("g", [settlement], ttl_ms=1_000)
    assert await store.settle("g", [settlement], ttl_ms=1_000) == [SettleStatus.OK]


async def test_while_unavailable_every_call_fails_and_nothing_changes() -> None:
    store = MemoryStore(HandClock())
    request = a_request()
    (answer,) = await store.claim("g", [request], lease_ms=1_000)
    held = Held(request.key, request.nonce, answer.token, 0)
    store.available = False
    for call in (
        store.start,
        lambda: store.claim("g", [a_request(1)], lease_ms=1_000),
        lambda: store.renew("g", [held], lease_ms=1_000),
        lambda: store.settle("g", [Settlement(*held[:3], SettleKind.COMPLETE)], ttl_ms=1_000),
        lambda: store.inspect("g", [request.key]),
    ):
        with pytest.raises(StoreError) as caught:
            await call()
        assert caught.value.retriable
    store.available = True
    await store.start()
    assert await store.renew("g", [held], lease_ms=1_000) == [True]
    assert store.claims() == 1


async def test_a_lost_key_gets_a_larger_token() -> None:
    clock = HandClock()
    store = MemoryStore(clock)
    (before,) = await store.claim("g", [a_request()], lease_ms=1_000)
    store.forget_all()
    await clock.sleep_ms(-3_600_000)
    (after,) = await store.claim("g", [a_request()], lease_ms=1_000)
    assert after.token > before.token


async def test_a_loss_met_by_a_call_that_failed_is_told_by_the_next() -> None:
    store = MemoryStore(HandClock())
    await store.start()
    store.forget_all()
    for how in Failure:
        store.fail_next(how=how)
        with pytest.raises(StoreError):
            await claim(store, a_request())
        assert store.losses() == 0
    await claim(store, a_request())
    assert store.losses() == 1


async def test_a_claim_in_progress_is_kept_for_a_day_and_then_dropped() -> None:
    clock = HandClock()
    store = MemoryStore(clock)
    await claim(store, a_request())
    await clock.sleep_ms(DAY_MS - 1)
    (answer,) = await store.claim("g", [a_request(nonce=b"nonce--2")], lease_ms=1_000)
    assert answer.crashes == 1
    await clock.sleep_ms(DAY_MS)
    (answer,) = await store.claim("g", [a_request(nonce=b"nonce--3")], lease_ms=1_000)
    assert answer.crashes == 0


async def test_expired_claims_are_swept() -> None:
    clock = HandClock()
    store = MemoryStore(clock, claim_ttl_ms=1_000)
    for number in range(20_000):
        await clock.sleep_ms(1)
        await claim(store, a_request(number))
    assert store.claims() < 2_500
