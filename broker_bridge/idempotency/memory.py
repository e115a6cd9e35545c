"""Claims in memory, by the same rules as Redis: for tests of handlers, and for simulations of what can go wrong."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from broker_bridge.clock import Clock
from broker_bridge.core.attempt_tally import AttemptTally
from broker_bridge.core.claim import (
    ClaimAnswer,
    ClaimRequest,
    ClaimView,
    Held,
    Settlement,
    SettleStatus,
    StoredClaim,
    check_held,
    check_request,
)
from broker_bridge.core.claim_rules import apply_claim, apply_renew, apply_settle
from broker_bridge.errors import StoreError
from broker_bridge.idempotency.loss_watch import LossWatch

DAY_MS = 24 * 60 * 60 * 1000

_Answer = TypeVar("_Answer")


class Failure(enum.Enum):
    """How a call fails: before anything was written, or after, with the answer lost on the way (fault rows 34, 35)."""

    NOT_APPLIED = "not applied"
    ANSWER_LOST = "answer lost"


class MemoryStore:
    """An ``IdempotencyStore`` in this process; nothing outlives it.

    Expiry follows ``clock``. To rehearse failures: set ``available`` to False (every call raises ``StoreError`` until
    it is True again), or plan some with ``fail_next`` (of the calls about claims: tallies come at times of their own).
    """

    def __init__(self, clock: Clock, *, claim_ttl_ms: int = DAY_MS) -> None:
        self.available = True
        self._clock = clock
        self._claim_ttl_ms = claim_ttl_ms
        self._kept: dict[tuple[str, bytes], tuple[StoredClaim, int]] = {}  # → (claim, expires at, in ms)
        self._tallies: dict[str, AttemptTally] = {}
        self._versions: dict[tuple[str, bytes], tuple[int, int]] = {}  # → (version, expires at, in ms)
        self._sweep_at = 1024
        self._failures: list[Failure] = []
        self._watch = LossWatch()
        self._highest_token = 0
        self._epochs = 0  # made so far; the latest is the one kept, unless it was forgotten
        self._has_epoch = False

    def fail_next(self, calls: int = 1, *, how: Failure = Failure.NOT_APPLIED) -> None:
        """Make the next ``calls`` calls raise ``StoreError``; plans add up and are used in order."""
        self._failures.extend([how] * calls)

    def forget_all(self) -> None:
        """Lose every claim and the epoch, as FLUSHALL or a failover to an empty replica would (window W3)."""
        self._kept.clear()
        self._tallies.clear()
        self._versions.clear()
        self._has_epoch = False

    def claims(self) -> int:
        """How many claims are held in memory, those that expired and were not swept yet among them."""
        return len(self._kept)

    async def start(self) -> None:
        """Raises ``StoreError`` while ``available`` is False."""
        self._claim("", [], lease_ms=0)

    async def claim(self, group: str, requests: Sequence[ClaimRequest], *, lease_ms: int) -> list[ClaimAnswer]:
        """See ``IdempotencyStore.claim``."""
        for request in requests:
            check_request(request)
        return self._claim(group, requests, lease_ms=lease_ms)

    async def renew(self, group: str, held: Sequence[Held], *, lease_ms: int) -> list[bool]:
        """See ``IdempotencyStore.renew``."""
        for one in held:
            check_held(one)
        return self._call(lambda: [self._renew_one(group, one, lease_ms) for one in held])

    async def settle(self, group: str, settlements: Sequence[Settlement], *, ttl_ms: int) -> list[SettleStatus]:
        """See ``IdempotencyStore.settle``."""
        for settlement in settlements:
            check_held(settlement)
        return self._call(lambda: [self._settle_one(group, settlement, ttl_ms) for settlement in settlements])

    async def inspect(self, group: str, keys: Sequence[bytes]) -> list[ClaimView | None]:
        """See ``IdempotencyStore.inspect``."""
        found = self._call(lambda: [self._read(group, key) for key in keys])
        return [stored.view() if stored else None for stored in found]

    async def advance(self, group: str, versions: Mapping[bytes, int], *, ttl_ms: int) -> None:
        """See ``IdempotencyStore.advance``."""
        self._call(lambda: self._advance(group, versions, ttl_ms))

    async def versions(self, group: str, keys: Sequence[bytes]) -> list[int | None]:
        """See ``IdempotencyStore.versions``."""
        return self._call(lambda: [self._newest((group, key)) for key in keys])

    async def tally(self, name: str, first: int, again: int, *, window_ms: int) -> tuple[int, int]:
        """See ``IdempotencyStore.tally``."""
        self._check_available()
        kept = self._tallies.setdefault(name, AttemptTally())
        return kept.add(first, again, now_ms=self._clock.now_ms(), window_ms=window_ms)

    def losses(self) -> int:
        """See ``IdempotencyStore.losses``."""
        return self._watch.losses

    async def stop(self) -> None:
        """Nothing to do: the claims stay, so that a store can be stopped and started like Redis."""

    def _check_available(self) -> None:
        if not self.available:
            raise StoreError("the store was made unavailable", where="memory")

    def _call(self, apply: Callable[[], _Answer]) -> _Answer:
        self._check_available()
        failure = self._failures.pop(0) if self._failures else None
        if failure is Failure.NOT_APPLIED:
            raise StoreError("the call was made to fail", where="memory")
        answer = apply()
        if failure is Failure.ANSWER_LOST:
            raise StoreError("the call was applied and its answer lost on purpose", where="memory")
        return answer

    def _claim(self, group: str, requests: Sequence[ClaimRequest], *, lease_ms: int) -> list[ClaimAnswer]:
        known = self._watch.before_call()
        epoch, answers = self._call(
            lambda: (self._read_epoch(), [self._claim_one(group, request, lease_ms) for request in requests])
        )
        self._watch.after_call(known, bucket=0, epoch=epoch)
        self._highest_token = max(self._highest_token, max((answer.token for answer in answers), default=0))
        return answers

    def _read_epoch(self) -> int:
        self._epochs += not self._has_epoch
        self._has_epoch = True
        return self._epochs

    def _claim_one(self, group: str, request: ClaimRequest, lease_ms: int) -> ClaimAnswer:
        stored = self._read(group, request.key)
        answer, after = apply_claim(
            stored, request, now_us=self._now_us(), lease_ms=lease_ms, floor=self._highest_token
        )
        if after is not None:
            self._write(group, request.key, after, max(self._claim_ttl_ms, lease_ms))
        return answer

    def _renew_one(self, group: str, held: Held, lease_ms: int) -> bool:
        after = apply_renew(self._read(group, held.key), held, now_us=self._now_us(), lease_ms=lease_ms)
        if after is None:
            return False
        self._write(group, held.key, after, max(self._claim_ttl_ms, lease_ms))
        return True

    def _settle_one(self, group: str, settlement: Settlement, ttl_ms: int) -> SettleStatus:
        status, after = apply_settle(self._read(group, settlement.key), settlement, now_us=self._now_us())
        if after is not None:
            self._write(group, settlement.key, after, ttl_ms)
        return status

    def _advance(self, group: str, versions: Mapping[bytes, int], ttl_ms: int) -> None:
        for key, version in versions.items():
            self._advance_one((group, key), version, ttl_ms)

    def _advance_one(self, place: tuple[str, bytes], version: int, ttl_ms: int) -> None:
        newest = self._newest(place)
        kept = version if newest is None else max(version, newest)
        self._versions[place] = (kept, self._clock.now_ms() + ttl_ms)

    def _newest(self, place: tuple[str, bytes]) -> int | None:
        version, expires_ms = self._versions.get(place, (None, 0))
        return version if self._clock.now_ms() < expires_ms else None

    def _now_us(self) -> int:
        return self._clock.now_ms() * 1000

    def _read(self, group: str, key: bytes) -> StoredClaim | None:
        stored, expires_ms = self._kept.get((group, key), (None, 0))
        return stored if self._clock.now_ms() < expires_ms else None

    def _write(self, group: str, key: bytes, stored: StoredClaim, ttl_ms: int) -> None:
        self._kept[group, key] = (stored, self._clock.now_ms() + ttl_ms)
        if len(self._kept) >= self._sweep_at:
            now_ms = self._clock.now_ms()
            self._kept = {place: kept for place, kept in self._kept.items() if now_ms < kept[1]}
            self._sweep_at = max(1024, 2 * len(self._kept))
