"""A store that goes on through outages is a store like any other: with the primary there it answers as that one does,
and away, under ``fallback``, by the same rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import claim_checks_losses
import claim_checks_tally
import claim_checks_versions
import pytest
import structlog
from claim_checks import CHECKS, Check
from claim_labs import HandClock, MemoryLab

from broker_bridge.core.claim import ClaimAnswer, ClaimRequest, ClaimStatus, ClaimView, StoredClaim
from broker_bridge.idempotency.degraded import DegradedStore, Policy

ONLY_THE_PRIMARY_KNOWS = {*vars(claim_checks_losses), *vars(claim_checks_tally), *vars(claim_checks_versions)}
AWAY = {name: check for name, check in CHECKS.items() if f"check_{name}" not in ONLY_THE_PRIMARY_KNOWS}


class NeverBack(HandClock):
    """Nobody asks again whether the primary is back."""

    async def sleep_ms(self, delay_ms: float) -> None:
        await asyncio.Event().wait()


class PlainSpoken(DegradedStore):
    """Away, without the two things that are meant to differ: the announcement that a grant may be a repeat, and that
    what is unknown is looked at as dead."""

    async def claim(self, group: str, requests: Sequence[ClaimRequest], *, lease_ms: int) -> list[ClaimAnswer]:
        answers = await super().claim(group, requests, lease_ms=lease_ms)
        return [self._plain(group, r, a) for r, a in zip(requests, answers, strict=True)]

    def _plain(self, group: str, request: ClaimRequest, answer: ClaimAnswer) -> ClaimAnswer:
        if answer.status is not ClaimStatus.GRANTED:
            return answer
        assert answer.tries >= 1
        assert self._known is not None
        stored = self._known.read(group, request.key)
        assert stored is not None
        return answer._replace(tries=stored.tries)

    async def inspect(self, group: str, keys: Sequence[bytes]) -> list[ClaimView | None]:
        assert self._known is not None
        return [self._known.view(group, key) for key in keys]


class DegradedLab(MemoryLab):
    """A store that goes on, around a memory store that is there, or away."""

    def __init__(self, policy: Policy, *, away: bool) -> None:
        super().__init__()
        self.clock = NeverBack()
        self.memory._clock = self.clock
        self.memory.available = not away
        self.away = away
        self.degraded = (PlainSpoken if away else DegradedStore)(
            self.memory, self.clock, policy=policy, log=structlog.get_logger("test"), counted=lambda _flag, _count: None
        )
        self.store = self.degraded

    async def plant(self, key: bytes, stored: StoredClaim) -> None:
        if self.away and self.degraded._known is not None:
            self.degraded._known.note(self.group, key, stored, ttl_ms=60_000)
        else:
            await super().plant(key, stored)


@pytest.fixture(params=["fallback", "fail_open"])
async def at_home(request: pytest.FixtureRequest) -> AsyncIterator[DegradedLab]:
    lab = DegradedLab(request.param, away=False)
    await lab.store.start()
    yield lab
    await lab.store.stop()


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
async def test_at_home(at_home: DegradedLab, check: Check) -> None:
    await check(at_home)
    assert not at_home.degraded.away


@pytest.mark.parametrize("check", AWAY.values(), ids=AWAY.keys())
async def test_fallback_away(check: Check) -> None:
    lab = DegradedLab("fallback", away=True)
    await lab.store.start()
    await check(lab)
    assert lab.degraded.away
    await lab.store.stop()
