"""What every idempotency store must do when claims end, and after: one function a promise."""

from __future__ import annotations

import os

from claim_calls import (
    BUSY,
    CONFLICT,
    DONE,
    GRANTED,
    OK,
    SHORT_MS,
    STALE,
    a_request,
    claim,
    ended,
    granted,
    lease_over,
    renew,
    settle,
    view,
)
from claim_labs import Lab

from broker_bridge.core.claim import (
    MAX_DETAIL_BYTES,
    NO_FINGERPRINT,
    ClaimAnswer,
    ClaimState,
    ClaimStatus,
    SettleKind,
    pack_place,
)

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
