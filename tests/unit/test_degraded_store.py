"""A store that goes on through outages (window W5): by values, in virtual time, and shown failing when broken."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from outage_checks import CHECKS, DONE, GRANTED, GROUP, LEASE_MS, OK, TTL_MS, Outages
from structlog.testing import capture_logs

from broker_bridge.core.claim import (
    ClaimAnswer,
    ClaimRequest,
    ClaimState,
    ClaimStatus,
    Held,
    SettleKind,
    SettleStatus,
)
from broker_bridge.errors import ClaimUnreadableError, StoreError, UnsafeSettingsError
from broker_bridge.idempotency.absence import PROBE_MS, Flag
from broker_bridge.idempotency.degraded import DegradedStore
from broker_bridge.idempotency.homeward import Homeward, Step
from broker_bridge.idempotency.late_start import LateStartStore
from broker_bridge.idempotency.memory import Failure, MemoryStore
from broker_bridge.testing import LoopClock, run_virtual

POLICIES = ("fallback", "fail_open")


class _Nowhere(Homeward):
    """Forgets what was to go home."""

    def add(self, step: Step) -> None:
        """Nothing."""


class NothingGoesHome(DegradedStore):
    """Settles away, and leaves the store at home in ignorance."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._homeward.__class__ = _Nowhere


class Unbounded(DegradedStore):
    """Takes no limit for what waits."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._homeward._limit = 10**9


class TokensGoBack(DegradedStore):
    """Tells the token that the store at home has minted, whatever was told before."""

    def _above(self, token: int) -> int:
        return token


class ForgetsWhatItSaw(DegradedStore):
    """Knows away only what was claimed away."""

    def _noted(self, group: str, request: ClaimRequest, answer: ClaimAnswer, lease_ms: int) -> ClaimAnswer:
        known, self._known = self._known, None
        try:
            return super()._noted(group, request, answer, lease_ms)
        finally:
            self._known = known


class ReturnsTooEarly(DegradedStore):
    """Asks the store again before what is in hand was claimed there."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._absence._in_hand = lambda: ()


BROKEN = [
    (NothingGoesHome, "what_was_done_away_is_known_at_home"),
    (Unbounded, "memory_is_bounded"),
    (TokensGoBack, "tokens_only_grow"),
    (ForgetsWhatItSaw, "no_key_completes_twice_here"),
    (ReturnsTooEarly, "no_key_completes_twice_here"),
]


def world_of(kind: type[DegradedStore]) -> Any:
    return lambda policy, **options: Outages(kind, policy, **options)


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
def test_check(check: Any) -> None:
    run_virtual(check(world_of(DegradedStore)))


@pytest.mark.parametrize(("kind", "name"), BROKEN, ids=[kind.__name__ for kind, _ in BROKEN])
def test_a_store_broken_on_purpose_is_caught(kind: type[DegradedStore], name: str) -> None:
    with pytest.raises(AssertionError):
        run_virtual(CHECKS[name](world_of(kind)))


def test_fallback_drops_what_this_process_did_and_fail_open_does_it_again() -> None:
    async def scenario(policy: str) -> list[ClaimStatus]:
        world = Outages(DegradedStore, policy)
        first = [await world.do("before")]
        world.primary.available = False
        answers = first + [await world.do(name) for name in ("before", "during", "during")]
        world.primary.available = True
        await world.store.stop()
        return answers

    assert run_virtual(scenario("fallback")) == [GRANTED, DONE, GRANTED, DONE]
    assert run_virtual(scenario("fail_open")) == [GRANTED] * 4


@pytest.mark.parametrize("policy", POLICIES)
def test_a_grant_without_the_store_is_announced_as_a_possible_repeat_and_counted_once(policy: str) -> None:
    async def scenario() -> None:
        world = Outages(DegradedStore, policy)
        assert (await world.claim(world.request("home"))).tries == 0
        world.primary.available = False
        request = world.request("away")
        first, again = await world.claim(request), await world.claim(request)
        assert (first.status, first.tries, first.crashes) == (GRANTED, 1, 0)
        assert again.token == first.token
        assert world.flags[Flag.UNGUARDED] == 1
        await world.store.stop()

    run_virtual(scenario())


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("how", Failure)
def test_a_claim_of_the_store_settled_while_it_is_away_is_settled_at_home_later(policy: str, how: Failure) -> None:
    async def scenario() -> None:
        world = Outages(DegradedStore, policy)
        request = world.request("one")
        answer = await world.claim(request)
        world.primary.fail_next(how=how)
        assert await world.end(request, answer.token) is OK
        assert world.store.away
        assert world.store.homeward == 1
        await world.back()
        assert await world.at_home(request) is ClaimState.COMPLETED
        assert world.flags[Flag.UNGUARDED] == 0, "the claim guarded it all the while"

    run_virtual(scenario())


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_in_hand_when_the_store_comes_back_is_claimed_there_at_once(policy: str) -> None:
    async def scenario() -> None:
        world = Outages(DegradedStore, policy, ahead_ms=3_600_000)
        world.primary.available = False
        request = world.request("one")
        answer = await world.claim(request)
        await world.back()
        (other,) = await world.primary.claim(GROUP, [world.request("one")], lease_ms=LEASE_MS)
        assert other.status is ClaimStatus.BUSY
        held = Held(request.key, request.nonce, answer.token, 1, 2)
        assert await world.store.renew(GROUP, [held], lease_ms=LEASE_MS) == [True]
        assert await world.end(request, answer.token) is OK
        assert await world.at_home(request) is ClaimState.COMPLETED

    run_virtual(scenario())


@pytest.mark.parametrize("policy", POLICIES)
def test_work_that_another_did_as_well_is_told_with_its_origin(policy: str) -> None:
    async def scenario() -> list[Any]:
        world = Outages(DegradedStore, policy)
        world.primary.available = False
        assert await world.do("one") is GRANTED
        in_hand = world.request("two")
        answer = await world.claim(in_hand)
        world.primary.available = True
        for name in ("one", "two"):
            other = world.request(name)
            (theirs,) = await world.primary.claim(GROUP, [other], lease_ms=LEASE_MS)
            assert theirs.status is GRANTED
        with capture_logs() as logs:
            await world.back()
        assert world.flags[Flag.COLLIDED] == 2
        held = Held(in_hand.key, in_hand.nonce, answer.token, 0)
        assert await world.store.renew(GROUP, [held], lease_ms=LEASE_MS) == [False]
        assert await world.end(in_hand, answer.token) is SettleStatus.STALE
        return [entry for entry in logs if entry["event"] == "effect_repeated"]

    told = run_virtual(scenario())
    assert [(entry["partition"], entry["offset"], entry["state"]) for entry in told] == [(3, 42, "busy")] * 2


def test_a_claim_let_go_untried_is_no_repeat() -> None:
    async def scenario() -> None:
        world = Outages(DegradedStore, "fallback")
        world.primary.available = False
        request = world.request("one")
        answer = await world.claim(request)
        assert await world.end(request, answer.token, SettleKind.RELEASE, tries=answer.tries) is OK
        world.primary.available = True
        await world.primary.claim(GROUP, [world.request("one")], lease_ms=LEASE_MS)
        await world.back()
        assert world.flags[Flag.COLLIDED] == 0

    run_virtual(scenario())


def test_steps_of_one_key_go_home_in_order() -> None:
    async def scenario() -> None:
        world = Outages(DegradedStore, "fallback")
        request = world.request("one")
        answer = await world.claim(request)
        world.primary.available = False
        assert await world.end(request, answer.token, SettleKind.RETRY, attempt=1) is OK
        old, copy = world.request("one"), world.request("one", attempt=1)
        assert (await world.claim(old)).status is ClaimStatus.SUPERSEDED
        answer = await world.claim(copy)
        assert answer.attempt == 1
        held = Held(copy.key, copy.nonce, answer.token, 2, 3)
        assert await world.store.renew(GROUP, [held], lease_ms=LEASE_MS) == [True]
        assert await world.end(copy, answer.token, SettleKind.RELEASE, tries=3) is OK
        await world.back()
        (view,) = await world.primary.inspect(GROUP, [copy.key])
        assert view is not None
        assert (view.state, view.attempt, view.tries) == (ClaimState.RETRY, 2, 3)
        assert world.flags[Flag.COLLIDED] == 0

    run_virtual(scenario())


def test_a_store_that_lost_its_claims_is_told_what_was_done() -> None:
    async def scenario() -> None:
        world = Outages(DegradedStore, "fallback")
        request = world.request("one")
        answer = await world.claim(request)
        world.primary.available = False
        assert await world.end(request, answer.token) is OK
        world.primary.forget_all()
        await world.back()
        assert await world.at_home(request) is ClaimState.COMPLETED
        assert world.flags[Flag.COLLIDED] == 0

    run_virtual(scenario())


class Counting(MemoryStore):
    """Counts calls, and takes its time to fail."""

    calls = 0

    async def claim(self, group: str, requests: Sequence[ClaimRequest], *, lease_ms: int) -> list[ClaimAnswer]:
        self.calls += 1
        if not self.available:
            await asyncio.sleep(2)
        return await super().claim(group, requests, lease_ms=lease_ms)


def test_a_store_that_is_away_is_asked_once_a_second_and_nobody_waits_for_it() -> None:
    async def scenario() -> None:
        world = Outages(DegradedStore, "fallback")
        world.primary.__class__ = Counting
        primary: Any = world.primary
        primary.available = False
        loop = asyncio.get_running_loop()
        await world.do("first")
        started = loop.time()
        for number in range(1_000):
            await world.do(number)
        assert loop.time() == started, "no call waited"
        asked = primary.calls
        await asyncio.sleep(60)
        assert primary.calls - asked <= 60_000 / (PROBE_MS + 2_000) + 1
        await world.back()

    run_virtual(scenario())


def test_held_keys_stay_held_while_nothing_is_known_of_them() -> None:
    async def scenario() -> None:
        world = Outages(DegradedStore, "fail_open")
        world.primary.available = False
        (view,) = await world.store.inspect(GROUP, [world.request("one").key])
        assert view is not None
        assert view.state is ClaimState.DEAD
        with pytest.raises(StoreError):
            await world.store.tally("t", 1, 0, window_ms=1_000)

    run_virtual(scenario())


def test_an_unreadable_claim_stops_neither_the_others_nor_the_return() -> None:
    foreign = b""

    class OneIsForeign(MemoryStore):
        async def claim(self, group: str, requests: Sequence[ClaimRequest], *, lease_ms: int) -> list[ClaimAnswer]:
            if any(request.key == foreign for request in requests):
                raise ClaimUnreadableError("a list")
            return await super().claim(group, requests, lease_ms=lease_ms)

    async def scenario() -> None:
        nonlocal foreign
        world = Outages(DegradedStore, "fallback")
        world.primary.__class__ = OneIsForeign
        world.primary.available = False
        for number in range(5):
            await world.do(number)
        foreign = world.request(2).key
        await world.back()
        for number in (0, 1, 3, 4):
            assert await world.at_home(world.request(number)) is ClaimState.COMPLETED
        with pytest.raises(ClaimUnreadableError):
            await world.do(2)

    run_virtual(scenario())


def test_a_store_that_is_away_at_the_start_is_started_and_checked_later() -> None:
    class Evicting(MemoryStore):
        async def start(self) -> None:
            await super().start()
            raise UnsafeSettingsError("maxmemory-policy is allkeys-lru")

    async def scenario(kind: type[MemoryStore]) -> None:
        world = Outages(DegradedStore, "fallback")
        world.primary.__class__ = kind
        world.primary.available = False
        late = LateStartStore(world.primary, log=world.store._log)
        store = DegradedStore(
            late, LoopClock(), policy="fallback", log=world.store._log, counted=lambda _flag, _count: None
        )
        late.before_stop.append(store.stop)
        await late.start()
        request = world.request("one")
        (answer,) = await store.claim(GROUP, [request], lease_ms=LEASE_MS)
        assert answer.status is GRANTED
        world.primary.available = True
        await asyncio.sleep(3)
        if kind is Evicting:
            with pytest.raises(UnsafeSettingsError):
                await store.claim(GROUP, [world.request("two")], lease_ms=LEASE_MS)
        else:
            assert not store.away
            assert await world.at_home(request) is ClaimState.IN_PROGRESS
        await late.stop()

    run_virtual(scenario(MemoryStore))
    run_virtual(scenario(Evicting))


def test_stopping_writes_home_what_it_can_and_tells_what_it_cannot() -> None:
    async def scenario(back: bool) -> tuple[int, list[str]]:
        world = Outages(DegradedStore, "fallback")
        world.primary.available = False
        await world.do("one")
        world.primary.available = back
        with capture_logs() as logs:
            await world.store.stop()
        return world.flags[Flag.DROPPED], [entry["event"] for entry in logs]

    assert run_virtual(scenario(True)) == (0, ["claims_guarded"])
    assert run_virtual(scenario(False)) == (1, ["claims_not_written"])


def test_ttl_is_kept_on_the_way_home() -> None:
    async def scenario() -> None:
        world = Outages(DegradedStore, "fallback")
        world.primary.available = False
        await world.do("one")
        await world.back()
        await asyncio.sleep(TTL_MS / 1000 + 1)
        assert await world.at_home(world.request("one")) is None
        assert await world.do("one") is GRANTED

    run_virtual(scenario())
