"""The claim's rules as values: every row can be reached, layouts survive, and whatever happens nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker_bridge.core.claim import (
    FORMAT,
    MAX_ATTEMPT,
    MAX_TOKEN,
    NO_FINGERPRINT,
    NO_REPLAY,
    ClaimRequest,
    ClaimState,
    ClaimStatus,
    Held,
    SettleKind,
    Settlement,
    SettleStatus,
    StoredClaim,
    pack_origin,
    pack_place,
    unpack_place,
)
from broker_bridge.core.claim_rules import (
    CLAIM_RULES,
    SETTLE_RULES,
    apply_claim,
    apply_renew,
    apply_settle,
    transition_table,
)
from broker_bridge.errors import ClaimUnreadableError

KEY = b"k" * 16
NOW_US = 1_700_000_000_000_000
LEASE_MS = 1_000

counts = st.integers(0, MAX_ATTEMPT)
moments = st.integers(0, MAX_TOKEN - 1)
eight_bytes = st.binary(min_size=8, max_size=8)
stored_claims = st.builds(
    StoredClaim,
    state=st.sampled_from(ClaimState),
    attempt=counts,
    copy_attempt=counts,
    crashes=counts,
    tries=counts,
    nonce=st.sampled_from([b"nonce--1", b"nonce--2"]),
    token=st.integers(1, NOW_US + 10),
    lease_end_ms=st.integers(NOW_US // 1000 - 2, NOW_US // 1000 + 2),
    fingerprint=st.sampled_from([b"payload1", b"payload2", NO_FINGERPRINT]),
    replay=st.sampled_from([NO_REPLAY, b"replay-1", b"replay-2"]),
    origin=st.binary(min_size=16, max_size=16),
    settled_at_ms=moments,
    detail=st.binary(max_size=40),
)
requests = st.builds(
    ClaimRequest,
    key=st.just(KEY),
    nonce=st.sampled_from([b"nonce--1", b"nonce--2"]),
    fingerprint=st.sampled_from([b"payload1", b"payload2"]),
    origin=st.binary(min_size=16, max_size=16),
    attempt=st.integers(0, 3),
    replay=st.sampled_from([NO_REPLAY, b"replay-1", b"replay-2"]),
)


@given(stored_claims)
def test_a_stored_claim_survives_its_layout(stored: StoredClaim) -> None:
    value = stored.encode()
    assert StoredClaim.decode(value) == stored
    assert len(value) == FORMAT.size + len(stored.detail) == 74 + len(stored.detail)
    assert value[0] == 1


@given(st.binary(max_size=100))
def test_any_other_bytes_are_refused(value: bytes) -> None:
    if len(value) >= 74 and value[0] == 1 and 1 <= value[1] <= 4:
        assert StoredClaim.decode(value).encode() == value
    else:
        with pytest.raises(ClaimUnreadableError):
            StoredClaim.decode(value)


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1))
def test_a_place_survives_packing(partition: int, offset: int) -> None:
    assert unpack_place(pack_place(partition, offset)) == (partition, offset)
    assert len(pack_origin("orders.placed", partition, offset)) == 16


@given(st.none() | stored_claims, requests)
def test_a_claim_is_answered_by_the_first_row_that_matches(stored: StoredClaim | None, request: ClaimRequest) -> None:
    answer, after = apply_claim(stored, request, now_us=NOW_US, lease_ms=LEASE_MS)
    assert (after is not None) == (answer.status is ClaimStatus.GRANTED)
    if after is None:
        assert answer.token == 0
        return
    assert after.state is ClaimState.IN_PROGRESS
    assert (after.nonce, after.fingerprint) == (request.nonce, request.fingerprint)
    assert after.lease_end_ms == NOW_US // 1000 + LEASE_MS
    assert answer.token == after.token
    if stored is not None:
        repeated = stored.state is ClaimState.IN_PROGRESS and stored.nonce == request.nonce
        assert after.token == stored.token if repeated else after.token > stored.token
    assert after.attempt <= MAX_ATTEMPT
    assert after.crashes <= MAX_ATTEMPT
    assert answer.tries == after.tries
    if stored is not None:
        assert after.tries == (0 if stored.state is ClaimState.DEAD else stored.tries), "only a new life starts at 0"


@given(stored_claims, st.sampled_from(SettleKind), st.booleans(), st.booleans(), counts, st.integers(0, 1 << 40))
def test_only_the_owner_changes_a_claim(
    stored: StoredClaim, kind: SettleKind, right_nonce: bool, right_token: bool, attempt: int, tries: int
) -> None:
    nonce = stored.nonce if right_nonce else b"stranger"
    token = stored.token if right_token else stored.token + 1
    settlement = Settlement(KEY, nonce, token, kind, attempt, b"detail", tries)
    status, after = apply_settle(stored, settlement, now_us=NOW_US)
    renewed = apply_renew(stored, Held(KEY, nonce, token, attempt, tries), now_us=NOW_US, lease_ms=LEASE_MS)
    if not (right_nonce and right_token):
        assert (status, after, renewed) == (SettleStatus.STALE, None, None)
    elif stored.state is ClaimState.IN_PROGRESS:
        assert status is SettleStatus.OK
        assert after is not None
        assert after.settled_at_ms == NOW_US // 1000
        assert renewed is not None
        assert renewed.attempt == max(stored.attempt, attempt)
        assert renewed.tries == after.tries == min(max(stored.tries, tries), MAX_ATTEMPT)
        assert apply_settle(after, settlement, now_us=NOW_US + 5_000) == (SettleStatus.OK, after), "a repeated call"
    else:
        assert renewed is None
        assert after in (None, stored)


def test_every_row_can_be_reached() -> None:
    seen: set[Any] = set()

    @settings(max_examples=3_000, database=None)
    @given(st.none() | stored_claims, requests)
    def explore(stored: StoredClaim | None, request: ClaimRequest) -> None:
        state = stored.state if stored else None
        for row in CLAIM_RULES:
            if row.state is state and (stored is None or row.guard(stored, request, NOW_US // 1000)):
                seen.add((row.state, row.when))
                assert apply_claim(stored, request, now_us=NOW_US, lease_ms=LEASE_MS)[0].status is row.status
                return
        raise AssertionError("no row matches")

    explore()
    assert seen == {(row.state, row.when) for row in CLAIM_RULES}


def test_the_table_can_be_printed() -> None:
    lines = transition_table().splitlines()
    assert lines[0] == "| from | event | guard | answer | to |"
    assert len(lines) == 2 + len(CLAIM_RULES) + 2 + len(SETTLE_RULES) + 1
    assert {line.count("|") for line in lines} == {6}
    assert "| DEAD | claim | no replay id, or the same | DEAD | unchanged |" in lines


def test_tokens_grow_while_the_clock_goes_back() -> None:
    request = ClaimRequest(KEY, b"nonce--1", b"payload1", bytes(16))
    answer, stored = apply_claim(None, request, now_us=NOW_US, lease_ms=0)
    hour_us = 3_600_000_000
    late, _ = apply_claim(stored, request._replace(nonce=b"nonce--2"), now_us=NOW_US - hour_us, lease_ms=0)
    assert late.status is ClaimStatus.BUSY, "a clock that went back makes a lease longer, never shorter"
    assert stored is not None
    after, _ = apply_claim(
        stored._replace(lease_end_ms=0), request._replace(nonce=b"nonce--2"), now_us=NOW_US - hour_us, lease_ms=0
    )
    assert after.token == answer.token + 1
    lost, _ = apply_claim(None, request, now_us=NOW_US + 1, lease_ms=0)
    assert lost.token > answer.token
    both, _ = apply_claim(None, request, now_us=NOW_US - hour_us, lease_ms=0, floor=answer.token)
    assert both.token == answer.token + 1, "lost, and the clock went back: the caller has seen the token before"


class OneKey(RuleBasedStateMachine):
    """Workers that crash, sleep, release, retry and bury, on one key: a log in Kafka's place holds the copies.

    A copy leaves the log only when its worker was told that it is settled (or superseded); a crash puts it back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_us = NOW_US
        self.stored: StoredClaim | None = None
        self.copies = [0]  # attempts carried by the copies waiting in Kafka
        self.in_hand: list[tuple[int, Held]] = []  # (attempt the copy carries, claim), crashed and sleeping ones too
        self.nonces = 0
        self.completions = 0
        self.dead = 0
        self.last_token = 0
        self.tries = 0  # the most that an owner has written down

    def write(self, after: StoredClaim | None) -> None:
        self.stored = after or self.stored

    @rule(which=st.integers(0, 5))
    def deliver(self, which: int) -> None:
        if not self.copies:
            return
        carried = self.copies[which % len(self.copies)]
        self.nonces += 1
        request = ClaimRequest(KEY, self.nonces.to_bytes(8, "big"), b"payload1", bytes(16), carried)
        answer, after = apply_claim(self.stored, request, now_us=self.now_us, lease_ms=LEASE_MS)
        if answer.status is ClaimStatus.GRANTED:
            assert answer.token > self.last_token, "I8: a later execution has a larger token"
            self.last_token = answer.token
            self.copies.remove(carried)
            assert answer.tries == self.tries, "every try that was written down, whoever made it"
            self.in_hand.append((carried, Held(KEY, request.nonce, answer.token, answer.attempt, answer.tries)))
        elif answer.status is not ClaimStatus.BUSY:
            self.copies.remove(carried)
        self.write(after)

    @rule(which=st.integers(0, 5), spent=st.integers(1, 3))
    def try_in_place(self, which: int, spent: int) -> None:
        if self.in_hand:
            place = which % len(self.in_hand)
            carried, held = self.in_hand[place]
            held = held._replace(attempt=held.attempt + spent, tries=held.tries + spent + 1)  # one was not charged
            self.in_hand[place] = (carried, held)
            after = apply_renew(self.stored, held, now_us=self.now_us, lease_ms=LEASE_MS)
            self.tries = self.tries if after is None else held.tries
            self.write(after)

    @rule(which=st.integers(0, 5), kind=st.sampled_from(SettleKind))
    def settle(self, which: int, kind: SettleKind) -> None:
        if not self.in_hand:
            return
        carried, held = self.in_hand.pop(which % len(self.in_hand))
        attempt = held.attempt + 1
        if kind is SettleKind.RETRY:
            self.copies.append(attempt)  # acknowledged by Kafka before the claim is settled
        status, after = apply_settle(
            self.stored,
            Settlement(KEY, held.nonce, held.token, kind, attempt, tries=held.tries + 1),
            now_us=self.now_us,
        )
        self.write(after)
        if kind is SettleKind.RELEASE:
            self.copies.append(carried)  # its offset was not committed: it comes again
        if status is SettleStatus.OK:
            self.tries = held.tries + 1
            self.completions += kind is SettleKind.COMPLETE
            self.dead += kind is SettleKind.DEAD

    @rule(which=st.integers(0, 5))
    def crash(self, which: int) -> None:
        if self.in_hand:
            carried, _ = self.in_hand.pop(which % len(self.in_hand))
            self.copies.append(carried)

    @rule(passed_ms=st.sampled_from([1, LEASE_MS // 2, LEASE_MS + 1]))
    def wait(self, passed_ms: int) -> None:
        self.now_us += passed_ms * 1000

    @invariant()
    def completes_or_dies_once(self) -> None:
        assert self.completions + self.dead <= 1, "I7"

    @invariant()
    def is_never_lost(self) -> None:
        assert self.completions or self.dead or self.copies or self.in_hand, (
            "I1: no copy is left, and it is not settled"
        )

    def teardown(self) -> None:
        """Once everybody has crashed and time passes, some copy can still be worked on to the end (I1, I21)."""
        while self.in_hand:
            self.crash(0)
        for _ in range(20):
            self.wait(LEASE_MS + 1)
            self.deliver(len(self.copies) - 1)
            if self.in_hand:
                self.settle(0, SettleKind.COMPLETE)
        assert self.completions + self.dead == 1


TestOneKey = OneKey.TestCase
TestOneKey.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
