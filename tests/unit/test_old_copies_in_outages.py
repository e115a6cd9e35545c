"""Copies of one message, some of them older, before, in and after an outage of the store."""

from __future__ import annotations

import pytest
from outage_checks import DONE, GRANTED, GROUP, LEASE_MS, OK, TTL_MS, Outages

from broker_bridge.core.claim import ClaimState, SettleKind, Settlement
from broker_bridge.idempotency.absence import Flag
from broker_bridge.idempotency.degraded import DegradedStore
from broker_bridge.testing import run_virtual

POLICIES = ("fallback", "fail_open")


@pytest.mark.parametrize("policy", POLICIES)
def test_what_was_done_away_with_an_old_copy_is_not_done_again_with_the_later_one(policy: str) -> None:
    """Another worker has written a retry copy of which this one has not heard when the store goes away."""

    async def scenario() -> None:
        world = Outages(DegradedStore, policy)
        other = world.request("m")
        (answer,) = await world.primary.claim(GROUP, [other], lease_ms=LEASE_MS)
        handed = Settlement(other.key, other.nonce, answer.token, SettleKind.RETRY, attempt=2)
        assert await world.primary.settle(GROUP, [handed], ttl_ms=TTL_MS) == [OK]
        world.primary.available = False
        assert await world.do("m") is GRANTED
        await world.back()
        assert await world.at_home(other) is ClaimState.COMPLETED
        assert (await world.claim(world.request("m", attempt=2))).status is DONE
        assert world.flags[Flag.COLLIDED] == 0
        await world.store.stop()

    run_virtual(scenario())


@pytest.mark.parametrize("policy", POLICIES)
def test_a_copy_given_back_while_away_is_granted_again_though_attempts_in_place_were_counted(policy: str) -> None:
    """Claimed, tried in place, claimed again at home, given up untried while the store is away; then read again as it
    stands in the log, where no attempt is counted. Whatever takes it for an older copy drops the only one there is."""

    async def scenario() -> None:
        world = Outages(DegradedStore, policy)
        first = world.request("one")
        answer = await world.claim(first)
        again = await world.claim(first._replace(attempt=1))
        assert (again.status, again.token) == (GRANTED, answer.token)
        world.primary.available = False
        assert await world.end(first, again.token, SettleKind.RELEASE, attempt=1) is OK
        assert (await world.claim(world.request("one"))).status is GRANTED

    run_virtual(scenario())
