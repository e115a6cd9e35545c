"""Stores broken on purpose, each with the one check of the contract that must catch it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from claim_calls import DAY_MS, LONG_MS

from broker_bridge.core.attempt_tally import AttemptTally
from broker_bridge.core.claim import (
    ClaimAnswer,
    ClaimRequest,
    ClaimState,
    ClaimStatus,
    Held,
    SettleKind,
    Settlement,
    SettleStatus,
)
from broker_bridge.core.claim_rules import apply_claim, apply_settle
from broker_bridge.idempotency.loss_watch import Epoch, Known, LossWatch
from broker_bridge.idempotency.memory import MemoryStore


class GetThenSet(MemoryStore):
    """Reads, lets others run, then writes without looking again."""

    async def claim(self, group: str, requests: Sequence[ClaimRequest], *, lease_ms: int) -> list[ClaimAnswer]:
        decided = []
        for request in requests:
            now_us = self._now_us()
            decided.append(apply_claim(self._read(group, request.key), request, now_us=now_us, lease_ms=lease_ms))
        await asyncio.sleep(0)
        for request, (_, after) in zip(requests, decided, strict=True):
            if after:
                self._write(group, request.key, after, self._claim_ttl_ms)
        return [answer for answer, _ in decided]


class SettlesForAnyone(MemoryStore):
    """Compares neither nonce nor token."""

    def _settle_one(self, group: str, settlement: Settlement, ttl_ms: int) -> SettleStatus:
        if stored := self._read(group, settlement.key):
            settlement = settlement._replace(nonce=stored.nonce, token=stored.token)
        return super()._settle_one(group, settlement, ttl_ms)


class SettlesByNonceOnly(MemoryStore):
    """Compares the owner, not the token."""

    def _settle_one(self, group: str, settlement: Settlement, ttl_ms: int) -> SettleStatus:
        stored = self._read(group, settlement.key)
        if stored and stored.nonce == settlement.nonce:
            settlement = settlement._replace(token=stored.token)
        return super()._settle_one(group, settlement, ttl_ms)


class NeverTakesOver(MemoryStore):
    """An owner that died holds its claim for ever."""

    def _claim_one(self, group: str, request: ClaimRequest, lease_ms: int) -> ClaimAnswer:
        stored = self._read(group, request.key)
        if stored and stored.state is ClaimState.IN_PROGRESS and stored.nonce != request.nonce:
            return ClaimAnswer(ClaimStatus.BUSY, retry_after_ms=1000)
        return super()._claim_one(group, request, lease_ms)


class ForgetsTheDeadline(MemoryStore):
    """Locks until the time to live, whatever lease was asked for (I18)."""

    def _claim_one(self, group: str, request: ClaimRequest, lease_ms: int) -> ClaimAnswer:
        return super()._claim_one(group, request, LONG_MS * 1000)


class IgnoresLeases(MemoryStore):
    """Every claim is up for grabs."""

    def _claim_one(self, group: str, request: ClaimRequest, lease_ms: int) -> ClaimAnswer:
        return super()._claim_one(group, request, 0)


class TakesRetryForBusy(MemoryStore):
    """Does not tell a claim handed back from one in use."""

    def _claim_one(self, group: str, request: ClaimRequest, lease_ms: int) -> ClaimAnswer:
        stored = self._read(group, request.key)
        if stored and stored.state is ClaimState.RETRY:
            return ClaimAnswer(ClaimStatus.BUSY, retry_after_ms=1000)
        return super()._claim_one(group, request, lease_ms)


class TrustsABoolean(MemoryStore):
    """SET NX: a repeated call meets its own first try and takes it for another owner."""

    def _claim_one(self, group: str, request: ClaimRequest, lease_ms: int) -> ClaimAnswer:
        stored = self._read(group, request.key)
        if stored and stored.state is ClaimState.IN_PROGRESS and self._clock.now_ms() < stored.lease_end_ms:
            return ClaimAnswer(ClaimStatus.BUSY, retry_after_ms=stored.lease_end_ms - self._clock.now_ms())
        return super()._claim_one(group, request, lease_ms)


class JudgesCopiesByAttemptsSpent(MemoryStore):
    """Takes the attempts written down by renewals for the count that the live copy carries."""

    def _claim_one(self, group: str, request: ClaimRequest, lease_ms: int) -> ClaimAnswer:
        stored = self._read(group, request.key)
        if stored and stored.state is ClaimState.RETRY and request.attempt < stored.attempt:
            return ClaimAnswer(ClaimStatus.SUPERSEDED)
        return super()._claim_one(group, request, lease_ms)


class RenewsForAnyone(MemoryStore):
    """Extends a lease without asking whose it is."""

    def _renew_one(self, group: str, held: Held, lease_ms: int) -> bool:
        if stored := self._read(group, held.key):
            held = held._replace(nonce=stored.nonce, token=stored.token)
        return super()._renew_one(group, held, lease_ms)


class KeepsForEver(MemoryStore):
    """Forgets the time to live."""

    def _settle_one(self, group: str, settlement: Settlement, ttl_ms: int) -> SettleStatus:
        return super()._settle_one(group, settlement, 10**12)


class RefusesRepetition(MemoryStore):
    """A settlement whose answer was lost looks stale when it is repeated."""

    def _settle_one(self, group: str, settlement: Settlement, ttl_ms: int) -> SettleStatus:
        stored = self._read(group, settlement.key)
        status, _ = apply_settle(stored, settlement, now_us=self._now_us())
        if stored and stored.state is not ClaimState.IN_PROGRESS:
            return SettleStatus.STALE
        assert status
        return super()._settle_one(group, settlement, ttl_ms)


class ForgetsTriesOnRelease(MemoryStore):
    """Takes letting go for not having tried."""

    def _settle_one(self, group: str, settlement: Settlement, ttl_ms: int) -> SettleStatus:
        if settlement.kind is SettleKind.RELEASE:
            settlement = settlement._replace(tries=0)
        return super()._settle_one(group, settlement, ttl_ms)


class ForgetsTriesOnTakeOver(MemoryStore):
    """What a dead worker tried is forgotten with it."""

    def _claim_one(self, group: str, request: ClaimRequest, lease_ms: int) -> ClaimAnswer:
        stored = self._read(group, request.key)
        answer = super()._claim_one(group, request, lease_ms)
        if stored and stored.state is ClaimState.IN_PROGRESS and answer.token > stored.token:
            taken = self._read(group, request.key)
            assert taken
            self._write(group, request.key, taken._replace(tries=0), DAY_MS)
            answer = answer._replace(tries=0)
        return answer


class CountsTriesOverLives(MemoryStore):
    """A message replayed from the dead letters is announced as a repeat of the life before."""

    def _claim_one(self, group: str, request: ClaimRequest, lease_ms: int) -> ClaimAnswer:
        stored = self._read(group, request.key)
        answer = super()._claim_one(group, request, lease_ms)
        return answer._replace(tries=max(answer.tries, stored.tries)) if stored else answer


class NeverLooksAtTheEpoch(MemoryStore):
    """Claims are gone, and nobody is told."""

    def losses(self) -> int:
        return 0


class TellsALossAgainAndAgain(MemoryStore):
    """Goes on comparing with the first epoch it saw."""

    def _read_epoch(self) -> int:
        epoch = super()._read_epoch()
        self._watch._known = {0: 1}
        return epoch


class TellsALossByEveryCall(LossWatch):
    """Listens to calls that were sent before the loss was told."""

    def after_call(self, known: Known, *, bucket: int, epoch: Epoch) -> None:
        self.losses += known.setdefault(bucket, epoch) != epoch
        self._known[bucket] = epoch


class WaitsForEveryBucketsTurn(LossWatch):
    """Knows a bucket's epoch only when somebody claims there: a second loss goes by unseen."""

    def unknown(self, buckets: int) -> list[int]:
        return []


class MakesAnEpochAtEachStart(MemoryStore):
    """Takes its own start for a loss."""

    async def start(self) -> None:
        self._has_epoch = False
        await super().start()


class LooksAtTheEpochOnlyWhenItClaims(MemoryStore):
    """Does not know the epoch before its first claim."""

    async def start(self) -> None:
        """Leaves it at that."""


class TrustsTheClockAlone(MemoryStore):
    """Has no floor: a loss and a clock that went back make tokens fall."""

    def _claim_one(self, group: str, request: ClaimRequest, lease_ms: int) -> ClaimAnswer:
        self._highest_token = 0
        return super()._claim_one(group, request, lease_ms)


class MixesGroups(MemoryStore):
    """One name space for all groups."""

    async def claim(self, group: str, requests: Sequence[ClaimRequest], *, lease_ms: int) -> list[ClaimAnswer]:
        return await super().claim(group.removesuffix("-other"), requests, lease_ms=lease_ms)


class TalliesOnlyTheCaller(MemoryStore):
    """Each caller is told of itself alone."""

    async def tally(self, name: str, first: int, again: int, *, window_ms: int) -> tuple[int, int]:
        await super().tally(name, first, again, window_ms=window_ms)
        return first, again


class TalliesUnderOneName(MemoryStore):
    """All targets share one budget."""

    async def tally(self, name: str, first: int, again: int, *, window_ms: int) -> tuple[int, int]:
        return await super().tally("", first, again, window_ms=window_ms)


class TalliesForEver(MemoryStore):
    """No window."""

    async def tally(self, name: str, first: int, again: int, *, window_ms: int) -> tuple[int, int]:
        return await super().tally(name, first, again, window_ms=10**9)


class TalliesTheShortestWindow(MemoryStore):
    """Whoever asks for a short window takes the counts from those who ask for a long one."""

    async def tally(self, name: str, first: int, again: int, *, window_ms: int) -> tuple[int, int]:
        self._tallies.setdefault(name, AttemptTally())._keep_ms = 0
        return await super().tally(name, first, again, window_ms=window_ms)


class TalliesTheSecondOnly(MemoryStore):
    """A window of one second, whatever was asked for."""

    async def tally(self, name: str, first: int, again: int, *, window_ms: int) -> tuple[int, int]:
        return await super().tally(name, first, again, window_ms=1)


class KeepsTheLastVersion(MemoryStore):
    """Whichever came last, not the newest."""

    def _advance_one(self, place: tuple[str, bytes], version: int, ttl_ms: int) -> None:
        self._versions[place] = (version, self._clock.now_ms() + ttl_ms)


class KeepsTheFirstTime(MemoryStore):
    """A version that is not newer does not begin its time anew."""

    def _advance_one(self, place: tuple[str, bytes], version: int, ttl_ms: int) -> None:
        newest = self._newest(place)
        if newest is None or version > newest:
            super()._advance_one(place, version, ttl_ms)


class ComparesAsDoubles(MemoryStore):
    """As Lua would, where numbers hold 53 bits."""

    def _advance_one(self, place: tuple[str, bytes], version: int, ttl_ms: int) -> None:
        newest = self._newest(place)
        if newest is None or float(version) > float(newest):
            super()._advance_one(place, version, ttl_ms)


BROKEN_STORES: list[tuple[type[MemoryStore], str]] = [
    (KeepsTheLastVersion, "a_version_is_kept_and_never_falls"),
    (KeepsTheFirstTime, "a_version_is_forgotten_after_its_time_which_each_call_begins_anew"),
    (ComparesAsDoubles, "versions_are_compared_as_numbers_whatever_their_size"),
    (GetThenSet, "one_of_many_at_once_wins"),
    (SettlesForAnyone, "only_the_owner_settles"),
    (SettlesByNonceOnly, "only_the_owner_settles"),
    (NeverTakesOver, "after_the_lease_another_owner_takes_over"),
    (ForgetsTheDeadline, "after_the_lease_another_owner_takes_over"),
    (IgnoresLeases, "another_owner_waits_for_the_lease"),
    (TakesRetryForBusy, "a_retry_goes_to_the_newest_copy"),
    (TrustsABoolean, "a_repeated_claim_gets_the_same_token_and_the_lease_anew"),
    (JudgesCopiesByAttemptsSpent, "a_released_record_comes_again_as_it_was"),
    (RenewsForAnyone, "only_the_owner_renews"),
    (KeepsForEver, "a_settled_claim_is_forgotten_after_its_time"),
    (RefusesRepetition, "a_repeated_settlement_is_ok"),
    (ForgetsTriesOnRelease, "tries_are_never_forgotten"),
    (ForgetsTriesOnTakeOver, "tries_outlive_the_worker_that_made_them"),
    (CountsTriesOverLives, "a_new_life_starts_without_tries"),
    (NeverLooksAtTheEpoch, "a_loss_is_told_once_and_answered"),
    (TellsALossAgainAndAgain, "a_loss_is_told_once_and_answered"),
    (MakesAnEpochAtEachStart, "no_loss_is_told_without_one"),
    (LooksAtTheEpochOnlyWhenItClaims, "a_loss_before_anything_was_claimed_is_told"),
    (LooksAtTheEpochOnlyWhenItClaims, "a_loss_while_stopped_is_told_at_the_start"),
    (TrustsTheClockAlone, "tokens_grow_over_a_loss_while_the_clock_goes_back"),
    (MixesGroups, "groups_do_not_meet"),
    (TalliesOnlyTheCaller, "a_tally_sums_up_what_everybody_counted"),
    (TalliesUnderOneName, "tallies_of_two_names_do_not_meet"),
    (TalliesForEver, "a_tally_forgets_what_left_the_window_and_nothing_else"),
    (TalliesTheShortestWindow, "a_tally_forgets_what_left_the_window_and_nothing_else"),
    (TalliesTheSecondOnly, "counts_within_the_window_are_kept_across_seconds"),
]
