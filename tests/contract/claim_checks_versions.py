"""What every idempotency store promises of the newest completed versions: one function a promise."""

from __future__ import annotations

import asyncio
import itertools

from claim_calls import BUSY, DAY_MS, a_request, claim, granted
from claim_labs import Lab

from broker_bridge.core.identity import version_key
from broker_bridge.core.newest_version import MAX_VERSION, MIN_VERSION

SHORT_MS = 300


def key(number: int = 0) -> bytes:
    return version_key(b"customer %d" % number, namespace="orders.placed")


async def newest(lab: Lab, number: int = 0) -> int | None:
    return (await lab.store.versions(lab.group, [key(number)]))[0]


async def check_a_version_is_kept_and_never_falls(lab: Lab) -> None:
    assert await newest(lab) is None
    kept = None
    for version in (5, 3, 5, 6, -1, 6):
        await lab.store.advance(lab.group, {key(): version}, ttl_ms=DAY_MS)
        kept = version if kept is None else max(kept, version)
        assert await newest(lab) == kept


async def check_versions_are_compared_as_numbers_whatever_their_size(lab: Lab) -> None:
    """Where 53 bits do not tell two of them apart, where the sign differs, and where only the low half does."""
    rising = [MIN_VERSION, MIN_VERSION + 1, -(2**32) - 1, -1, 0, 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**53 + 1]
    rising += [MAX_VERSION - 1, MAX_VERSION]
    for number, (lower, higher) in enumerate(itertools.pairwise(rising)):
        await lab.store.advance(lab.group, {key(number): higher}, ttl_ms=DAY_MS)
        await lab.store.advance(lab.group, {key(number): lower}, ttl_ms=DAY_MS)
        assert await newest(lab, number) == higher
        await lab.store.advance(lab.group, {key(100 + number): lower}, ttl_ms=DAY_MS)
        await lab.store.advance(lab.group, {key(100 + number): higher}, ttl_ms=DAY_MS)
        assert await newest(lab, 100 + number) == higher


async def check_many_versions_are_answered_in_the_order_asked(lab: Lab) -> None:
    await lab.store.advance(lab.group, {key(number): number for number in range(500)}, ttl_ms=DAY_MS)
    asked = [499, 7, 1_000, 0, 7]
    assert await lab.store.versions(lab.group, [key(number) for number in asked]) == [499, 7, None, 0, 7]
    assert await lab.store.versions(lab.group, []) == []
    await lab.store.advance(lab.group, {}, ttl_ms=DAY_MS)


async def check_the_newest_of_many_at_once_is_kept(lab: Lab) -> None:
    calls = (lab.store.advance(lab.group, {key(): version}, ttl_ms=DAY_MS) for version in (3, 9, 1, 7, 2))
    await asyncio.gather(*calls)
    assert await newest(lab) == 9


async def check_a_version_is_forgotten_after_its_time_which_each_call_begins_anew(lab: Lab) -> None:
    await lab.store.advance(lab.group, {key(): 9}, ttl_ms=SHORT_MS)
    await lab.store.advance(lab.group, {key(1): 9}, ttl_ms=SHORT_MS)
    began_ms = await lab.now_ms()
    await lab.store.advance(lab.group, {key(1): 4}, ttl_ms=DAY_MS)
    await lab.wait_until(began_ms + SHORT_MS + 1)
    assert await newest(lab) is None
    assert await newest(lab, 1) == 9


async def check_versions_of_two_groups_and_claims_do_not_meet(lab: Lab) -> None:
    request = a_request()
    await granted(lab, request)
    await lab.store.advance(lab.group, {request.key: 5}, ttl_ms=DAY_MS)
    assert (await claim(lab, request._replace(nonce=b"8 bytes."))).status is BUSY
    assert (await lab.store.inspect(lab.group, [request.key, key()]))[1] is None
    assert await lab.store.versions(f"{lab.group}-other", [request.key]) == [None]
    assert await lab.store.versions(lab.group, [request.key]) == [5]
