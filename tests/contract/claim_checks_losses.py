"""What every idempotency store must notice when claims are lost (window W3, fault row 39): one function a promise."""

from __future__ import annotations

import asyncio

from claim_calls import GRANTED, LONG_MS, SHORT_MS, a_request, claim, ended, granted, lease_over, view
from claim_labs import Lab

from broker_bridge.core.claim import NO_FINGERPRINT, NO_REPLAY, ClaimState, SettleKind, StoredClaim

HOUR_US = 3_600_000_000


async def check_a_loss_is_told_once_and_answered(lab: Lab) -> None:
    for losses in range(3):
        assert lab.store.losses() == losses
        await ended(lab, a_request(), SettleKind.COMPLETE)
        assert lab.store.losses() == losses
        await lab.lose_everything()
        names = range(40)  # enough to meet every bucket
        answers = await lab.store.claim(lab.group, [a_request(name) for name in names], lease_ms=LONG_MS)
        assert [answer.status for answer in answers] == [GRANTED] * 40
        assert lab.store.losses() == losses + 1, "told by the call that met it"
        for name in names:
            await claim(lab, a_request((name, "later")))
        assert lab.store.losses() == losses + 1, "told once"


async def check_a_loss_met_by_many_calls_at_once_is_told_once(lab: Lab) -> None:
    await granted(lab, a_request())
    await lab.lose_everything()
    await asyncio.gather(*(claim(lab, a_request(name)) for name in range(30)))
    assert lab.store.losses() == 1


async def check_one_loss_after_another_is_told(lab: Lab) -> None:
    """A single claim in between, mostly in another bucket."""
    for losses in range(8):
        await lab.lose_everything()
        await granted(lab, a_request(losses))
        assert lab.store.losses() == losses + 1


async def check_a_loss_before_anything_was_claimed_is_told(lab: Lab) -> None:
    await lab.lose_everything()
    await granted(lab, a_request())
    assert lab.store.losses() == 1


async def check_a_loss_while_stopped_is_told_at_the_start(lab: Lab) -> None:
    await granted(lab, a_request())
    await lab.store.stop()
    await lab.lose_everything()
    await lab.store.start()
    assert lab.store.losses() == 1
    await granted(lab, a_request())
    assert lab.store.losses() == 1


async def check_no_loss_is_told_without_one(lab: Lab) -> None:
    """Claims that end, expire, are taken over, or are asked for many at once; stop and start."""
    await ended(lab, a_request("retry"), SettleKind.RETRY)
    await granted(lab, a_request("late"), SHORT_MS)
    await lease_over(lab, a_request("late"))
    await asyncio.gather(*(claim(lab, a_request(name)) for name in ("late", "retry", *range(20))))
    await lab.store.stop()
    await lab.store.start()
    await claim(lab, a_request("after"))
    assert lab.store.losses() == 0


async def check_tokens_grow_over_a_loss_while_the_clock_goes_back(lab: Lab) -> None:
    """The clock was an hour ahead when the first token was minted: such a token is planted."""
    first = a_request()
    ahead_us = await lab.now_ms() * 1000 + HOUR_US
    await lab.plant(first.key, minted(ahead_us))
    token = await granted(lab, first)
    assert token > ahead_us
    await lab.lose_everything()
    second = a_request()
    larger = await granted(lab, second)
    assert larger > token
    assert (await view(lab, second)).token == larger
    assert await granted(lab, a_request("another key")) > token


def minted(token: int) -> StoredClaim:
    """A claim handed back by an owner who had this token."""
    return StoredClaim(
        state=ClaimState.RETRY,
        attempt=0,
        copy_attempt=0,
        crashes=0,
        tries=0,
        nonce=b"planted.",
        token=token,
        lease_end_ms=0,
        fingerprint=NO_FINGERPRINT,
        replay=NO_REPLAY,
        origin=bytes(16),
        settled_at_ms=1,
        detail=b"",
    )
