"""What every idempotency store must remember of how often a message was tried: one function a promise."""

from __future__ import annotations

from claim_calls import (
    BUSY,
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

from broker_bridge.core.claim import MAX_ATTEMPT, ClaimAnswer, ClaimStatus, SettleKind, pack_place


async def check_tries_are_never_forgotten(lab: Lab) -> None:
    """However a claim ended; also where no attempt was spent (an outage, a worker that let go)."""
    for kind in SettleKind:
        request = a_request(kind)
        token = await granted(lab, request)
        assert await renew(lab, request, token, tries=2)
        assert await renew(lab, request, token, tries=1)
        assert (await view(lab, request)).tries == 2, "the count never falls"
        assert (await claim(lab, a_request(kind))).tries == 2, "those who wait see it too"
        assert (await claim(lab, request)) == ClaimAnswer(GRANTED, token=token, tries=2), "a repeated call"
        assert await settle(lab, request, token, kind, detail=b"x", tries=3) is OK
        assert await settle(lab, request, token, kind, detail=b"x", tries=3) is OK
        assert (await view(lab, request)).tries == 3
        answer = await claim(lab, a_request(kind))
        assert (answer.tries, answer.attempt) == (3, 0), answer
        if answer.status is GRANTED:
            again = a_request(kind)
            assert (await claim(lab, again)).status is BUSY
        other = a_request((kind, "forgetful"))
        token = await granted(lab, other)
        assert await renew(lab, other, token, tries=4)
        assert await settle(lab, other, token, kind) is OK
        assert (await view(lab, other)).tries == 4, "a settlement that names none forgets none"


async def check_tries_outlive_the_worker_that_made_them(lab: Lab) -> None:
    first = a_request()
    token = await granted(lab, first, SHORT_MS)
    assert await renew(lab, first, token, tries=2, lease_ms=SHORT_MS)
    await lease_over(lab, first)
    answer = await claim(lab, a_request(), SHORT_MS)
    assert answer == ClaimAnswer(GRANTED, token=answer.token, crashes=1, tries=2)
    await lease_over(lab, first)
    third = a_request()
    answer = await claim(lab, third)
    assert answer == ClaimAnswer(GRANTED, token=answer.token, crashes=2, tries=2)
    assert await settle(lab, first, token, SettleKind.RELEASE, tries=9) is STALE
    assert (await view(lab, third)).tries == 2


async def check_a_superseded_copy_sees_the_tries(lab: Lab) -> None:
    await ended(lab, a_request(), SettleKind.RETRY, attempt=1, tries=5)
    answer = await claim(lab, a_request(attempt=0))
    assert (answer.status, answer.tries) == (ClaimStatus.SUPERSEDED, 5)
    assert (await claim(lab, a_request(attempt=1))).tries == 5


async def check_a_new_life_starts_without_tries(lab: Lab) -> None:
    await ended(lab, a_request(), SettleKind.DEAD, detail=pack_place(0, 1), tries=3)
    assert (await claim(lab, a_request())).tries == 3
    replayed = a_request(replay=b"replay-1")
    answer = await claim(lab, replayed)
    assert answer == ClaimAnswer(GRANTED, token=answer.token)
    assert (await view(lab, replayed)).tries == 0
    assert await settle(lab, replayed, answer.token, SettleKind.RELEASE, tries=1) is OK
    assert (await claim(lab, a_request(replay=b"replay-1"))).tries == 1, "the same replay goes on with the same life"


async def check_tries_stop_growing_at_the_largest_count(lab: Lab) -> None:
    """An outage of weeks must not make renewals fail."""
    request = a_request()
    token = await granted(lab, request)
    assert await renew(lab, request, token, tries=MAX_ATTEMPT + 1)
    assert (await view(lab, request)).tries == MAX_ATTEMPT
    assert await settle(lab, request, token, SettleKind.RELEASE, tries=MAX_ATTEMPT + 2) is OK
    assert (await claim(lab, a_request())).tries == MAX_ATTEMPT
