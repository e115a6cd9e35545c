"""What every idempotency store must do, one function a promise. Each takes a ``Lab`` and fails by assertion.

They are plain functions so that they can be turned on stores broken on purpose as well (``test_broken_stores.py``).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable

import pytest
from claim_labs import Lab

from broker_bridge.core.claim import (
    MAX_ATTEMPT,
    MAX_DETAIL_BYTES,
    NO_FINGERPRINT,
    ClaimAnswer,
    ClaimRequest,
    ClaimState,
    ClaimStatus,
    ClaimView,
    Held,
    SettleKind,
    Settlement,
    SettleStatus,
    pack_origin,
    pack_place,
)
from broker_bridge.errors import UsageError

LONG_MS = 60_000
SHORT_MS = 25
DAY_MS = 86_400_000
GRANTED, BUSY, DONE, CONFLICT = ClaimStatus.GRANTED, ClaimStatus.BUSY, ClaimStatus.DONE, ClaimStatus.CONFLICT
OK, STALE = SettleStatus.OK, SettleStatus.STALE


def key(name: object) -> bytes:
    return hashlib.blake2b(str(name).encode(), digest_size=16).digest()


def a_request(name: object = "order-1", *, attempt: int = 0, replay: bytes = b"\0" * 8) -> ClaimRequest:
    """A delivery of the message ``name``: the same key, payload and place each time, a nonce of its own."""
    payload = hashlib.blake2b(b"payload" + str(name).encode(), digest_size=8).digest()
    return ClaimRequest(key(name), os.urandom(8), payload, pack_origin("orders", 3, 42), attempt, replay)


async def claim(lab: Lab, request: ClaimRequest, lease_ms: int = LONG_MS) -> ClaimAnswer:
    (answer,) = await lab.store.claim(lab.group, [request], lease_ms=lease_ms)
    return answer


async def granted(lab: Lab, request: ClaimRequest, lease_ms: int = LONG_MS) -> int:
    answer = await claim(lab, request, lease_ms)
    assert answer.status is GRANTED, answer
    return answer.token


async def settle(
    lab: Lab,
    request: ClaimRequest,
    token: int,
    kind: SettleKind,
    *,
    attempt: int = 0,
    detail: bytes = b"",
    ttl_ms: int = DAY_MS,
) -> SettleStatus:
    settlement = Settlement(request.key, request.nonce, token, kind, attempt, detail)
    (status,) = await lab.store.settle(lab.group, [settlement], ttl_ms=ttl_ms)
    return status


async def ended(lab: Lab, request: ClaimRequest, kind: SettleKind, *, attempt: int = 0, detail: bytes = b"") -> int:
    token = await granted(lab, request)
    assert await settle(lab, request, token, kind, attempt=attempt, detail=detail) is OK
    return token


async def renew(lab: Lab, request: ClaimRequest, token: int, *, attempt: int = 0, lease_ms: int = LONG_MS) -> bool:
    (extended,) = await lab.store.renew(
        lab.group, [Held(request.key, request.nonce, token, attempt)], lease_ms=lease_ms
    )
    return extended


async def view(lab: Lab, request: ClaimRequest) -> ClaimView:
    (found,) = await lab.store.inspect(lab.group, [request.key])
    assert found is not None
    return found


async def lease_over(lab: Lab, request: ClaimRequest) -> None:
    """Wait out a lease of ``SHORT_MS``."""
    end_ms = (await view(lab, request)).lease_end_ms
    assert end_ms <= await lab.now_ms() + SHORT_MS, "the lease is longer than was asked for"
    await lab.wait_until(end_ms)


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


# -- settling --------------------------------------------------------------------------------------------------------


async def check_completed_is_done_with_its_result(lab: Lab) -> None:
    request = a_request()
    before_ms = await lab.now_ms()
    await ended(lab, request, SettleKind.COMPLETE, detail=b"\0result\xff")
    after_ms = await lab.now_ms()
    answer = await claim(lab, a_request())
    assert answer == ClaimAnswer(
        DONE, result=b"\0result\xff", origin=request.origin, settled_at_ms=answer.settled_at_ms
    )
    assert before_ms <= answer.settled_at_ms <= after_ms
    assert (await claim(lab, request)).status is DONE, "a late repetition of the claim"
    assert (await view(lab, request)).state is ClaimState.COMPLETED


async def check_the_largest_result_is_kept_whole(lab: Lab) -> None:
    result = os.urandom(MAX_DETAIL_BYTES)
    await ended(lab, a_request(), SettleKind.COMPLETE, detail=result)
    assert (await claim(lab, a_request())).result == result


async def check_only_the_owner_settles(lab: Lab) -> None:
    for kind in SettleKind:
        request = a_request(kind)
        token = await granted(lab, request)
        before = await view(lab, request)
        assert await settle(lab, a_request(kind), token, kind, attempt=1, detail=b"x") is STALE
        assert await settle(lab, request, token - 1, kind, attempt=1, detail=b"x") is STALE
        assert await settle(lab, a_request("never claimed"), token, kind) is STALE
        assert await view(lab, request) == before
        assert await settle(lab, request, token, kind) is OK


async def check_an_overtaken_owner_settles_nothing(lab: Lab) -> None:
    """W2: the first owner slept past its lease; its effect happened, but the books belong to the second."""
    first, second = a_request(), a_request()
    old_token = await granted(lab, first, SHORT_MS)
    await lease_over(lab, first)
    token = await granted(lab, second)
    before = await view(lab, second)
    for kind in SettleKind:
        assert await settle(lab, first, old_token, kind, attempt=5) is STALE
        assert await settle(lab, second, old_token, kind, attempt=5) is STALE
    assert await view(lab, second) == before
    assert await settle(lab, second, token, SettleKind.COMPLETE, detail=b"second") is OK
    assert await settle(lab, first, old_token, SettleKind.COMPLETE, detail=b"first") is STALE
    assert (await claim(lab, a_request())).result == b"second"


async def check_a_late_owner_that_nobody_overtook_still_settles(lab: Lab) -> None:
    request = a_request()
    token = await granted(lab, request, SHORT_MS)
    await lease_over(lab, request)
    assert await settle(lab, request, token, SettleKind.COMPLETE) is OK


async def check_a_repeated_settlement_is_ok(lab: Lab) -> None:
    for kind in SettleKind:
        request = a_request(kind)
        token = await ended(lab, request, kind, attempt=1, detail=b"first")
        before = await view(lab, request)
        assert await settle(lab, request, token, kind, attempt=1, detail=b"first") is OK
        assert await view(lab, request) == before


async def check_a_settled_claim_is_not_settled_otherwise(lab: Lab) -> None:
    for first, second in (
        (SettleKind.COMPLETE, SettleKind.DEAD),
        (SettleKind.COMPLETE, SettleKind.RETRY),
        (SettleKind.DEAD, SettleKind.COMPLETE),
        (SettleKind.DEAD, SettleKind.RELEASE),
        (SettleKind.RETRY, SettleKind.COMPLETE),
        (SettleKind.RELEASE, SettleKind.DEAD),
    ):
        request = a_request((first, second))
        token = await ended(lab, request, first)
        before = await view(lab, request)
        assert await settle(lab, request, token, second) is STALE
        assert await view(lab, request) == before


async def check_a_settled_claim_is_forgotten_after_its_time(lab: Lab) -> None:
    request = a_request()
    token = await granted(lab, request)
    assert await settle(lab, request, token, SettleKind.COMPLETE, ttl_ms=SHORT_MS) is OK
    await lab.wait_until(await lab.now_ms() + SHORT_MS + 1)
    assert await lab.store.inspect(lab.group, [request.key]) == [None]
    assert await settle(lab, request, token, SettleKind.COMPLETE) is STALE
    assert await granted(lab, a_request()) > token, "tokens grow even where the key was forgotten"


# -- retries, releases, dead letters ---------------------------------------------------------------------------------


async def check_a_retry_goes_to_the_newest_copy(lab: Lab) -> None:
    token = await ended(lab, a_request(), SettleKind.RETRY, attempt=2)
    assert await claim(lab, a_request(attempt=1)) == ClaimAnswer(
        ClaimStatus.SUPERSEDED,
        attempt=2,
        origin=a_request().origin,
        settled_at_ms=(await view(lab, a_request())).settled_at_ms,
    )
    answer = await claim(lab, a_request(attempt=2))
    assert answer == ClaimAnswer(GRANTED, token=answer.token, attempt=2)
    assert answer.token > token


async def check_a_later_copy_than_expected_is_granted(lab: Lab) -> None:
    await ended(lab, a_request(), SettleKind.RETRY, attempt=1)
    assert (await claim(lab, a_request(attempt=4))).attempt == 4


async def check_the_acknowledged_copy_is_never_superseded(lab: Lab) -> None:
    """Whatever renewals wrote down before: the copy is the only record that comes again."""
    request = a_request()
    token = await granted(lab, request)
    assert await renew(lab, request, token, attempt=5)
    assert await settle(lab, request, token, SettleKind.RETRY, attempt=3) is OK
    answer = await claim(lab, a_request(attempt=3))
    assert (answer.status, answer.attempt) == (GRANTED, 3)


async def check_a_released_record_comes_again_as_it_was(lab: Lab) -> None:
    """In-place attempts are written down, yet the record in Kafka still carries the count it was sent with."""
    request = a_request()
    token = await granted(lab, request)
    assert await renew(lab, request, token, attempt=2)
    assert await settle(lab, request, token, SettleKind.RELEASE) is OK
    assert (await view(lab, request)).attempt == 2
    answer = await claim(lab, a_request())
    assert answer == ClaimAnswer(GRANTED, token=answer.token, attempt=2)
    assert answer.token > token


async def check_a_released_copy_still_supersedes_older_ones(lab: Lab) -> None:
    await ended(lab, a_request(), SettleKind.RETRY, attempt=1)
    await ended(lab, a_request(attempt=1), SettleKind.RELEASE)
    assert (await claim(lab, a_request(attempt=0))).status is ClaimStatus.SUPERSEDED
    assert (await claim(lab, a_request(attempt=1))).status is GRANTED


async def check_an_older_copy_that_took_over_comes_again_when_released(lab: Lab) -> None:
    """The first delivery was not committed when its retry copy was claimed; then the copy's worker died."""
    await ended(lab, a_request(attempt=0), SettleKind.RETRY, attempt=1)
    await granted(lab, a_request(attempt=1), SHORT_MS)
    await lease_over(lab, a_request())
    await ended(lab, a_request(attempt=0), SettleKind.RELEASE)
    assert (await claim(lab, a_request(attempt=0))).status is GRANTED


async def check_crashes_survive_a_retry(lab: Lab) -> None:
    await granted(lab, a_request(), SHORT_MS)
    await lease_over(lab, a_request())
    await ended(lab, a_request(), SettleKind.RETRY, attempt=1)
    assert (await claim(lab, a_request(attempt=1))).crashes == 1


async def check_the_dead_stay_dead_without_a_replay(lab: Lab) -> None:
    request = a_request()
    await ended(lab, request, SettleKind.DEAD, detail=pack_place(3, 77))
    answer = await claim(lab, a_request(attempt=9))
    assert answer == ClaimAnswer(
        ClaimStatus.DEAD, result=pack_place(3, 77), origin=request.origin, settled_at_ms=answer.settled_at_ms
    )
    assert answer.settled_at_ms > 0


async def check_each_replay_gives_one_new_life(lab: Lab) -> None:
    await granted(lab, a_request(), SHORT_MS)
    await lease_over(lab, a_request())
    last_token = await ended(lab, a_request(attempt=4), SettleKind.DEAD, detail=pack_place(0, 1))
    for replay in (b"replay-1", b"replay-2"):
        request = a_request(attempt=2, replay=replay)
        answer = await claim(lab, request)
        assert answer == ClaimAnswer(GRANTED, token=answer.token), "a new life starts without attempts and crashes"
        assert answer.token > last_token
        last_token = answer.token
        assert (await view(lab, request)).replay == replay
        assert (await claim(lab, a_request(replay=replay))).status is BUSY
        assert await settle(lab, request, answer.token, SettleKind.RETRY, attempt=1) is OK
        retried = await ended(lab, a_request(attempt=1), SettleKind.DEAD, detail=pack_place(0, 2))
        assert (await claim(lab, a_request(replay=replay))).status is ClaimStatus.DEAD, "its second copy"
        last_token = retried


async def check_a_replay_of_the_living_is_like_any_other_copy(lab: Lab) -> None:
    await granted(lab, a_request("busy"))
    assert (await claim(lab, a_request("busy", replay=b"replay-1"))).status is BUSY
    await ended(lab, a_request("retry"), SettleKind.RETRY, attempt=1)
    assert (await claim(lab, a_request("retry", replay=b"replay-1"))).status is ClaimStatus.SUPERSEDED
    await ended(lab, a_request("retry", attempt=1, replay=b"replay-1"), SettleKind.DEAD)
    assert (await claim(lab, a_request("retry", replay=b"replay-1"))).status is ClaimStatus.DEAD
    await ended(lab, a_request("done"), SettleKind.COMPLETE)
    assert (await claim(lab, a_request("done", replay=b"replay-1"))).status is DONE


# -- payloads --------------------------------------------------------------------------------------------------------


async def check_another_payload_conflicts_in_every_state(lab: Lab) -> None:
    for kind in (None, *SettleKind):
        request = a_request(kind)
        token = await granted(lab, request)
        if kind is not None:
            assert await settle(lab, request, token, kind, detail=b"detail") is OK
        before = await view(lab, request)
        for other in (request, a_request(kind, attempt=9)):
            answer = await claim(lab, other._replace(fingerprint=b"another!"))
            assert answer.status is CONFLICT
            assert answer.origin == request.origin
        assert await view(lab, request) == before


async def check_an_unknown_payload_conflicts_with_nothing(lab: Lab) -> None:
    await ended(lab, a_request()._replace(fingerprint=NO_FINGERPRINT), SettleKind.RETRY)
    await granted(lab, a_request())
    assert (await claim(lab, a_request()._replace(fingerprint=b"another!"))).status is CONFLICT


async def check_an_edited_payload_comes_back_by_replay_only_from_the_dead(lab: Lab) -> None:
    await ended(lab, a_request("done"), SettleKind.COMPLETE)
    edited = a_request("done", replay=b"replay-1")._replace(fingerprint=b"edited!!")
    assert (await claim(lab, edited)).status is CONFLICT
    await ended(lab, a_request("dead"), SettleKind.DEAD)
    edited = a_request("dead", replay=b"replay-1")._replace(fingerprint=b"edited!!")
    await granted(lab, edited)
    assert (await view(lab, edited)).fingerprint == b"edited!!"
    assert (await claim(lab, a_request("dead"))).status is CONFLICT


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
    assert (await view(lab, good)).state is ClaimState.IN_PROGRESS


async def check_claims_outlive_stop_and_start(lab: Lab) -> None:
    await ended(lab, a_request(), SettleKind.COMPLETE)
    await lab.store.stop()
    await lab.store.stop()
    await lab.store.start()
    assert (await claim(lab, a_request())).status is DONE


Check = Callable[[Lab], Awaitable[None]]
CHECKS: dict[str, Check] = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}
