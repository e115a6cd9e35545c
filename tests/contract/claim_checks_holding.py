"""What every idempotency store must do while claims are taken and held: one function a promise."""

from __future__ import annotations

import asyncio

import pytest
from claim_calls import (
    BUSY,
    DAY_MS,
    DONE,
    GRANTED,
    LONG_MS,
    OK,
    SHORT_MS,
    STALE,
    a_request,
    claim,
    ended,
    granted,
    key,
    lease_over,
    renew,
    settle,
    view,
)
from claim_labs import Lab

from broker_bridge.core.claim import (
    MAX_ATTEMPT,
    MAX_DETAIL_BYTES,
    ClaimAnswer,
    ClaimState,
    ClaimStatus,
    SettleKind,
    Settlement,
    pack_place,
)
from broker_bridge.errors import UsageError

# -- claims ----------------------------------------------------------------------------------------------------------


async def check_a_first_claim_is_granted_with_a_deadline(lab: Lab) -> None:
    request = a_request(attempt=2)
    before_ms = await lab.now_ms()
    answer = await claim(lab, request)
    after_ms = await lab.now_ms()
    assert answer == ClaimAnswer(GRANTED, token=answer.token, attempt=2)
    assert 0 < answer.token < 2**53
    found = await view(lab, request)
    assert (found.state, found.token) == (ClaimState.IN_PROGRESS, answer.token)
    assert before_ms + LONG_MS <= found.lease_end_ms <= after_ms + LONG_MS
    assert (found.attempt, found.crashes, found.settled_at_ms, found.detail) == (2, 0, 0, b"")
    assert (found.origin, found.fingerprint, found.replay) == (request.origin, request.fingerprint, request.replay)


async def check_a_repeated_claim_gets_the_same_token_and_the_lease_anew(lab: Lab) -> None:
    request = a_request()
    token = await granted(lab, request)
    first = await view(lab, request)
    await lab.wait_until(await lab.now_ms() + 2)
    assert await claim(lab, request._replace(attempt=1)) == ClaimAnswer(GRANTED, token=token, attempt=1)
    again = await view(lab, request)
    assert again.lease_end_ms > first.lease_end_ms
    assert again.crashes == 0


async def check_a_repeated_claim_after_the_lease_is_no_crash(lab: Lab) -> None:
    request = a_request()
    token = await granted(lab, request, SHORT_MS)
    await lease_over(lab, request)
    assert await claim(lab, request) == ClaimAnswer(GRANTED, token=token)


async def check_another_owner_waits_for_the_lease(lab: Lab) -> None:
    request = a_request()
    await granted(lab, request)
    before = await view(lab, request)
    answer = await claim(lab, a_request(attempt=7))
    assert answer.status is BUSY
    assert 0 < answer.retry_after_ms <= LONG_MS
    assert (answer.token, answer.attempt, answer.crashes) == (0, 0, 0)
    assert await view(lab, request) == before


async def check_after_the_lease_another_owner_takes_over(lab: Lab) -> None:
    token = await granted(lab, a_request(attempt=1), SHORT_MS)
    await lease_over(lab, a_request())
    answer = await claim(lab, a_request())
    assert answer == ClaimAnswer(GRANTED, token=answer.token, attempt=1, crashes=1)
    assert answer.token > token
    assert (await claim(lab, a_request())).status is BUSY


async def check_crashes_add_up_and_attempts_are_not_forgotten(lab: Lab) -> None:
    for crashes in range(3):
        request = a_request()
        answer = await claim(lab, request, SHORT_MS)
        assert (answer.status, answer.crashes, answer.attempt) == (GRANTED, crashes, 2 * crashes)
        assert await renew(lab, request, answer.token, attempt=2 * crashes + 2, lease_ms=SHORT_MS)
        await lease_over(lab, request)


async def check_one_of_many_at_once_wins(lab: Lab) -> None:
    answers = await asyncio.gather(*(claim(lab, a_request()) for _ in range(20)))
    assert sorted(answer.status for answer in answers) == [GRANTED] + [BUSY] * 19


async def check_a_batch_is_applied_in_order(lab: Lab) -> None:
    requests = [a_request("a"), a_request("b"), a_request("a"), a_request("c"), a_request("b")]
    answers = await lab.store.claim(lab.group, requests, lease_ms=LONG_MS)
    assert [answer.status for answer in answers] == [GRANTED, GRANTED, BUSY, GRANTED, BUSY]
    settlements = [
        Settlement(requests[1].key, requests[1].nonce, answers[1].token, SettleKind.COMPLETE, 0, b"result of b"),
        Settlement(requests[0].key, requests[2].nonce, answers[0].token, SettleKind.COMPLETE),
        Settlement(requests[0].key, requests[0].nonce, answers[0].token, SettleKind.DEAD, 0, pack_place(1, 2)),
        Settlement(requests[0].key, requests[0].nonce, answers[0].token, SettleKind.COMPLETE),
    ]
    assert await lab.store.settle(lab.group, settlements, ttl_ms=DAY_MS) == [OK, STALE, OK, STALE]
    more = [a_request("d"), a_request("b"), a_request("a"), a_request("c")]
    answers = await lab.store.claim(lab.group, more, lease_ms=LONG_MS)
    assert [answer.status for answer in answers] == [GRANTED, DONE, ClaimStatus.DEAD, BUSY]
    assert [answer.result for answer in answers] == [b"", b"result of b", pack_place(1, 2), b""]


async def check_a_large_batch_keeps_its_order(lab: Lab) -> None:
    requests = [a_request(number) for number in range(700)]
    answers = await lab.store.claim(lab.group, requests, lease_ms=LONG_MS)
    settlements = [
        Settlement(r.key, r.nonce, a.token, SettleKind.COMPLETE, 0, b"%d" % number)
        for number, (r, a) in enumerate(zip(requests, answers, strict=True))
    ]
    odd = settlements[1::2]
    assert await lab.store.settle(lab.group, odd, ttl_ms=DAY_MS) == [OK] * 350
    again = await lab.store.claim(lab.group, [a_request(number) for number in range(700)], lease_ms=LONG_MS)
    for number, answer in enumerate(again):
        assert answer.status is (DONE if number % 2 else BUSY)
        assert answer.result == (b"%d" % number if number % 2 else b"")


async def check_groups_do_not_meet(lab: Lab) -> None:
    request = a_request()
    token = await granted(lab, request)
    other = f"{lab.group}-other"
    assert await lab.store.inspect(other, [request.key]) == [None]
    (answer,) = await lab.store.claim(other, [a_request()], lease_ms=LONG_MS)
    assert answer.status is GRANTED
    (status,) = await lab.store.settle(
        other, [Settlement(request.key, request.nonce, token, SettleKind.COMPLETE)], ttl_ms=DAY_MS
    )
    assert status is STALE


# -- renewal ---------------------------------------------------------------------------------------------------------


async def check_renewal_extends_the_lease_and_writes_attempts_down(lab: Lab) -> None:
    request = a_request(attempt=1)
    token = await granted(lab, request, SHORT_MS)
    first = await view(lab, request)
    assert await renew(lab, request, token, attempt=3)
    extended = await view(lab, request)
    assert extended.lease_end_ms >= first.lease_end_ms + LONG_MS - SHORT_MS
    assert extended.attempt == 3
    assert await renew(lab, request, token, attempt=2)
    assert (await view(lab, request)).attempt == 3
    await lab.wait_until(first.lease_end_ms + 1)
    assert (await claim(lab, a_request())).status is BUSY


async def check_only_the_owner_renews(lab: Lab) -> None:
    request = a_request()
    token = await granted(lab, request)
    before = await view(lab, request)
    assert not await renew(lab, a_request(), token, attempt=9)
    assert not await renew(lab, request, token + 1, attempt=9)
    assert not await renew(lab, a_request("never claimed"), token)
    assert await view(lab, request) == before
    assert await settle(lab, request, token, SettleKind.COMPLETE) is OK
    assert not await renew(lab, request, token)
    assert (await view(lab, request)).state is ClaimState.COMPLETED


async def check_an_overtaken_owner_does_not_renew(lab: Lab) -> None:
    request = a_request()
    token = await granted(lab, request, SHORT_MS)
    await lease_over(lab, request)
    assert await renew(lab, request, token, lease_ms=0), "late, but nobody took over"
    await granted(lab, a_request())
    assert not await renew(lab, request, token)


# -- the calls themselves --------------------------------------------------------------------------------------------


async def check_nothing_asked_nothing_answered(lab: Lab) -> None:
    assert await lab.store.claim(lab.group, [], lease_ms=LONG_MS) == []
    assert await lab.store.renew(lab.group, [], lease_ms=LONG_MS) == []
    assert await lab.store.settle(lab.group, [], ttl_ms=DAY_MS) == []
    assert await lab.store.inspect(lab.group, []) == []


async def check_inspection_changes_nothing_and_keeps_order(lab: Lab) -> None:
    await granted(lab, a_request("a"))
    await ended(lab, a_request("b"), SettleKind.COMPLETE, detail=b"b")
    keys = [key("b"), key("nowhere"), key("a"), key("b")]
    found = await lab.store.inspect(lab.group, keys)
    assert [one and one.state for one in found] == [
        ClaimState.COMPLETED,
        None,
        ClaimState.IN_PROGRESS,
        ClaimState.COMPLETED,
    ]
    assert await lab.store.inspect(lab.group, keys) == found


async def check_what_does_not_fit_is_refused_before_anything_is_written(lab: Lab) -> None:
    good, bad = a_request("good"), a_request("bad")
    for wrong in (
        bad._replace(key=b"short"),
        bad._replace(nonce=b"nonce too long"),
        bad._replace(key=bad.key[:-1], nonce=bad.nonce + b"."),
        bad._replace(fingerprint=b""),
        bad._replace(origin=b"orders/0/1"),
        bad._replace(replay=b"replay-number-1"),
        bad._replace(attempt=-1),
        bad._replace(attempt=MAX_ATTEMPT + 1),
    ):
        with pytest.raises(UsageError):
            await lab.store.claim(lab.group, [good, wrong], lease_ms=LONG_MS)
    assert await lab.store.inspect(lab.group, [good.key]) == [None]
    token = await granted(lab, good)
    with pytest.raises(UsageError, match="at most 1024 bytes"):
        await settle(lab, good, token, SettleKind.COMPLETE, detail=b"x" * (MAX_DETAIL_BYTES + 1))
    with pytest.raises(UsageError):
        await settle(lab, good, -1, SettleKind.COMPLETE)
    with pytest.raises(UsageError):
        await renew(lab, good, token, attempt=MAX_ATTEMPT + 1)
    with pytest.raises(UsageError):
        await renew(lab, good, token, tries=-1)
    assert (await view(lab, good)).state is ClaimState.IN_PROGRESS


async def check_claims_outlive_stop_and_start(lab: Lab) -> None:
    await ended(lab, a_request(), SettleKind.COMPLETE)
    await lab.store.stop()
    await lab.store.stop()
    await lab.store.start()
    assert (await claim(lab, a_request())).status is DONE
