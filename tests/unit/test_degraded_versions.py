"""Newest versions through an outage of the store: kept, written home before anybody is answered by it again, told."""

from __future__ import annotations

import pytest
from outage_checks import GROUP, TTL_MS, Outages

from broker_bridge.core.identity import version_key
from broker_bridge.errors import StoreError
from broker_bridge.idempotency.absence import Flag
from broker_bridge.idempotency.degraded import DegradedStore
from broker_bridge.testing import run_virtual


def key(number: int) -> bytes:
    return version_key(b"customer %d" % number, namespace="orders")


async def advance(world: Outages, number: int, version: int) -> None:
    await world.store.advance(GROUP, {key(number): version}, ttl_ms=TTL_MS)


@pytest.mark.parametrize("policy", ["fallback", "fail_open"])
def test_what_was_completed_away_is_known_at_home_and_nobody_guesses_meanwhile(policy: str) -> None:
    async def scenario() -> None:
        world = Outages(DegradedStore, policy)
        await advance(world, 1, 5)
        assert await world.store.versions(GROUP, [key(1)]) == [5]
        world.primary.available = False
        for version in (7, 9, 8):
            await advance(world, 1, version)
        await advance(world, 2, 3)
        with pytest.raises(StoreError):
            await world.store.versions(GROUP, [key(1)])
        world.primary._advance_one((GROUP, key(2)), 4, TTL_MS)  # by a worker that could reach it
        await world.back()
        assert await world.primary.versions(GROUP, [key(1), key(2)]) == [9, 4]
        assert await world.store.versions(GROUP, [key(1), key(2)]) == [9, 4]
        assert not world.flags[Flag.DROPPED]

    run_virtual(scenario())


def test_a_question_that_finds_the_store_away_is_an_outage() -> None:
    async def scenario() -> None:
        world = Outages(DegradedStore, "fallback")
        world.primary.available = False
        with pytest.raises(StoreError):
            await world.store.versions(GROUP, [key(1)])
        assert world.store.away
        await world.back()
        assert await world.store.versions(GROUP, [key(1)]) == [None]

    run_virtual(scenario())


def test_beyond_the_limit_the_oldest_are_dropped_and_told() -> None:
    async def scenario() -> None:
        world = Outages(DegradedStore, "fallback", limit=3)
        world.primary.available = False
        for number in range(5):
            await advance(world, number, 1)
        assert world.flags[Flag.DROPPED] == 2
        await world.back()
        assert await world.store.versions(GROUP, [key(n) for n in range(5)]) == [None, None, 1, 1, 1]

    run_virtual(scenario())


def test_what_cannot_be_written_home_at_the_end_is_told() -> None:
    async def scenario(back: bool) -> int:
        world = Outages(DegradedStore, "fallback")
        world.primary.available = False
        await advance(world, 1, 1)
        world.primary.available = back
        await world.store.stop()
        assert kept(world) == ([1] if back else [])
        return world.flags[Flag.DROPPED]

    assert run_virtual(scenario(True)) == 0
    assert run_virtual(scenario(False)) == 1


def kept(world: Outages) -> list[int]:
    """The versions that the primary keeps."""
    return [version for version, _ in world.primary._versions.values()]
