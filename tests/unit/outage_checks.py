"""What a store must do that goes on through outages: each check takes a way to make one, so that it can be turned on
stores broken on purpose as well (``test_degraded_store.py``)."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Callable

import structlog

from broker_bridge.clock import Clock
from broker_bridge.core.claim import (
    ClaimAnswer,
    ClaimRequest,
    ClaimState,
    ClaimStatus,
    SettleKind,
    Settlement,
    SettleStatus,
    pack_origin,
)
from broker_bridge.idempotency.absence import Flag
from broker_bridge.idempotency.degraded import DegradedStore
from broker_bridge.idempotency.memory import Failure, MemoryStore
from broker_bridge.testing import LoopClock

GROUP, LEASE_MS, TTL_MS = "payments", 30_000, 86_400_000
GRANTED, DONE, OK = ClaimStatus.GRANTED, ClaimStatus.DONE, SettleStatus.OK
BACK_S = 3.0
"""Longer than it takes to notice that the store is back."""


class SlowHand:
    """A clock of this machine that differs from the store's by ``ahead_ms``."""

    def __init__(self, ahead_ms: int = 0) -> None:
        self._inner = LoopClock()
        self.ahead_ms = ahead_ms

    def now_ms(self) -> int:
        return self._inner.now_ms() + self.ahead_ms

    async def sleep_ms(self, delay_ms: float) -> None:
        await self._inner.sleep_ms(delay_ms)


class Outages:
    """A store that goes on, the primary behind it, and what was counted."""

    def __init__(
        self, kind: type[DegradedStore], policy: str, *, limit: int = 1_000, ahead_ms: int = 0, seed: int = 1
    ) -> None:
        self.clock: Clock = SlowHand(ahead_ms)
        self.primary = MemoryStore(LoopClock())
        self.flags: Counter[Flag] = Counter()
        self.rng = random.Random(seed)
        self.store = kind(
            self.primary,
            self.clock,
            policy="fallback" if policy == "fallback" else "fail_open",
            log=structlog.get_logger("test"),
            counted=lambda flag, count: self.flags.update({flag: count}),
            limit=limit,
        )

    def request(self, name: object, *, attempt: int = 0) -> ClaimRequest:
        """A delivery of the message ``name``, with a nonce of its own."""
        key = hashlib.blake2b(str(name).encode(), digest_size=16).digest()
        return ClaimRequest(key, self.rng.randbytes(8), key[:8], pack_origin("orders", 3, 42), attempt)

    async def claim(self, request: ClaimRequest) -> ClaimAnswer:
        (answer,) = await self.store.claim(GROUP, [request], lease_ms=LEASE_MS)
        return answer

    async def end(
        self,
        request: ClaimRequest,
        token: int,
        kind: SettleKind = SettleKind.COMPLETE,
        *,
        attempt: int = 0,
        tries: int = 1,
    ) -> SettleStatus:
        ended = Settlement(request.key, request.nonce, token, kind, attempt, tries=tries)
        (status,) = await self.store.settle(GROUP, [ended], ttl_ms=TTL_MS)
        return status

    async def do(self, name: object) -> ClaimStatus:
        """Claim a message, and complete it where it was granted."""
        request = self.request(name)
        answer = await self.claim(request)
        if answer.status is GRANTED:
            assert await self.end(request, answer.token) is OK
        return answer.status

    async def at_home(self, request: ClaimRequest) -> ClaimState | None:
        """What the primary has of it."""
        (view,) = await self.primary.inspect(GROUP, [request.key])
        return view.state if view else None

    async def back(self) -> None:
        """The primary answers again, and that was noticed."""
        self.primary.available = True
        await asyncio.sleep(BACK_S)
        assert not self.store.away


Make = Callable[..., Outages]
"""(policy, …) → outages."""


async def check_what_was_done_away_is_known_at_home(make: Make) -> None:
    """A copy that another worker meets after the outage is dropped there."""
    for policy in ("fallback", "fail_open"):
        world = make(policy)
        assert await world.do("before") is GRANTED
        world.primary.available = False
        assert await world.do("during") is GRANTED
        await world.back()
        for name in ("before", "during"):
            (answer,) = await world.primary.claim(GROUP, [world.request(name)], lease_ms=LEASE_MS)
            assert answer.status is DONE, (policy, name)
        assert world.flags[Flag.UNGUARDED] == 1
        assert world.flags[Flag.COLLIDED] == 0
        await world.store.stop()


async def check_memory_is_bounded(make: Make) -> None:
    """Beyond the limit the oldest go, and are counted."""
    world = make("fallback", limit=50)
    world.primary.available = False
    for number in range(200):
        assert await world.do(number) is GRANTED
    assert world.store.homeward == 50
    assert world.flags[Flag.DROPPED] == 150
    await world.back()
    assert await world.at_home(world.request(149)) is None
    assert await world.at_home(world.request(150)) is ClaimState.COMPLETED
    assert await world.at_home(world.request(199)) is ClaimState.COMPLETED
    await world.store.stop()


async def check_tokens_only_grow(make: Make) -> None:
    """Over outages and back, also where this machine's clock is an hour ahead of the store's, or behind it."""
    for policy in ("fallback", "fail_open"):
        for ahead_ms in (-3_600_000, 0, 3_600_000):
            world = make(policy, ahead_ms=ahead_ms)
            last = 0
            for turn in range(12):
                world.primary.available = turn // 3 % 2 == 0
                if world.primary.available and world.store.away:
                    await world.back()
                request = world.request("one")
                answer = await world.claim(request)
                assert answer.status is GRANTED
                assert answer.token > last, (policy, ahead_ms, turn)
                last = answer.token
                (ours,) = await world.store.renew(GROUP, [], lease_ms=LEASE_MS) or [True]
                assert ours
                assert await world.end(request, last, SettleKind.RELEASE) is OK
            world.primary.available = True
            await world.store.stop()


async def check_no_key_completes_twice_here(make: Make) -> None:
    """``fallback``, one worker, outages at random: whatever comes again is not done again."""
    for seed in range(40):
        world = make("fallback", seed=seed)
        rng, done = random.Random(seed), Counter[int]()
        in_hand: list[tuple[int, ClaimRequest, int]] = []
        for _ in range(300):
            _trouble(world.primary, rng)
            name = rng.randrange(40)
            if in_hand and rng.random() < 0.5:
                name, request, token = in_hand.pop(rng.randrange(len(in_hand)))
                kind = rng.choice((SettleKind.COMPLETE, SettleKind.COMPLETE, SettleKind.RELEASE))
                if await world.end(request, token, kind) is OK and kind is SettleKind.COMPLETE:
                    done[name] += 1
            else:
                request = world.request(name)
                answer = await world.claim(request)
                if answer.status is GRANTED:
                    in_hand.append((name, request, answer.token))
                elif answer.status is DONE:
                    assert done[name], (seed, name)
            await asyncio.sleep(rng.choice((0, 0, 0.2, 1.5)))
        assert [name for name, times in done.items() if times > 1] == [], seed
        await world.back() if world.store.away else None
        for name in done:
            assert await world.at_home(world.request(name)) is ClaimState.COMPLETED, (seed, name)
        assert world.flags[Flag.COLLIDED] == 0
        await world.store.stop()


def _trouble(primary: MemoryStore, rng: random.Random) -> None:
    chance = rng.random()
    if chance < 0.03:
        primary.available = False
    elif chance < 0.1:
        primary.available = True
    elif chance < 0.13:
        primary.fail_next(rng.randrange(1, 3), how=rng.choice(list(Failure)))


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}
