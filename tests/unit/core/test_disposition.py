"""The policy of attempts: every row of its table, and its promises under any sequence of failures."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker_bridge.core.disposition import (
    ANSWERED,
    Disposition,
    Ended,
    RetryPolicy,
    Verdict,
    decide,
)

POLICY = RetryPolicy(in_place=3, base_ms=100, max_ms=1_000, jitter=0.5, lanes_ms=(2_000, 30_000), max_holds=4)
MAY_PASS = Ended(failed=True, retriable=True)
OUTAGE = Ended(failed=True, retriable=True, outage=True)
LATER = Ended(failed=True, retriable=True, spends_attempt=False)
FINAL = Ended(failed=True)


def decided(
    ended: Ended,
    *,
    attempt: int = 0,
    holds: int = 0,
    breaker_closed: bool = True,
    policy: RetryPolicy = POLICY,
) -> Disposition:
    """The decision without jitter."""
    return decide(ended, policy=policy, attempt=attempt, holds=holds, breaker_closed=breaker_closed, chance=0)


@pytest.mark.parametrize("breaker_closed", [True, False])
def test_an_answer_completes_and_a_final_failure_dies_at_any_time(breaker_closed: bool) -> None:
    for attempt in range(5):
        found = decided(ANSWERED, attempt=attempt, holds=9, breaker_closed=breaker_closed)
        assert found == (Verdict.COMPLETE, attempt + 1, 0, None)
        found = decided(FINAL, attempt=attempt, breaker_closed=breaker_closed)
        assert found == (Verdict.DEAD_LETTER, attempt + 1, 0, None)


@pytest.mark.parametrize(
    ("ended", "breaker_closed", "attempt", "expected"),
    [
        (MAY_PASS, True, 0, (Verdict.RETRY_IN_PLACE, 1, 100, None)),
        (MAY_PASS, True, 1, (Verdict.RETRY_IN_PLACE, 2, 200, None)),
        (MAY_PASS, True, 2, (Verdict.RETRY_LANE, 3, 2_000, 0)),
        (MAY_PASS, True, 3, (Verdict.RETRY_LANE, 4, 30_000, 1)),
        (MAY_PASS, True, 4, (Verdict.DEAD_LETTER, 5, 0, None)),
        (MAY_PASS, False, 0, (Verdict.RETRY_IN_PLACE, 1, 100, None)),
        (OUTAGE, True, 0, (Verdict.RETRY_IN_PLACE, 1, 100, None)),
        (OUTAGE, False, 2, (Verdict.HOLD, 2, 100, None)),
        (OUTAGE, False, 4, (Verdict.HOLD, 4, 100, None)),
        (LATER, True, 2, (Verdict.HOLD, 2, 100, None)),
        (LATER, False, 4, (Verdict.HOLD, 4, 100, None)),
    ],
)
def test_rows(ended: Ended, breaker_closed: bool, attempt: int, expected: Disposition) -> None:
    assert decided(ended, attempt=attempt, breaker_closed=breaker_closed) == expected


def test_what_asks_for_later_too_often_spends_attempts_in_the_end() -> None:
    assert decided(LATER, holds=3).verdict is Verdict.HOLD
    assert decided(LATER, holds=4) == (Verdict.RETRY_IN_PLACE, 1, 100, None)


def test_during_an_outage_there_is_no_such_limit() -> None:
    assert decided(OUTAGE, holds=10_000, breaker_closed=False) == (Verdict.HOLD, 0, 1_000, None)


def test_the_targets_own_wait_is_kept_where_it_is_longer() -> None:
    for ended, closed in ((LATER, True), (OUTAGE, False), (MAY_PASS, True)):
        assert decided(ended._replace(retry_after_ms=7_000), breaker_closed=closed).delay_ms == 7_000
        assert decided(ended._replace(retry_after_ms=1), breaker_closed=closed).delay_ms == 100
        assert decided(ended._replace(retry_after_ms=0), breaker_closed=closed).delay_ms == 100


def test_without_lanes_the_attempts_in_place_are_all() -> None:
    policy = RetryPolicy(in_place=1, lanes_ms=())
    assert policy.max_attempts == 1
    assert decided(MAY_PASS, policy=policy) == (Verdict.DEAD_LETTER, 1, 0, None)


POLICIES = st.builds(
    RetryPolicy,
    in_place=st.integers(1, 5),
    base_ms=st.integers(0, 500),
    max_ms=st.integers(0, 5_000),
    jitter=st.floats(0, 1),
    lanes_ms=st.lists(st.integers(1, 60_000), max_size=4).map(lambda delays: tuple(sorted(delays))),
    max_holds=st.integers(0, 5),
)
FAILURES = st.builds(
    Ended,
    failed=st.just(True),
    retriable=st.booleans() | st.just(True),
    outage=st.booleans(),
    spends_attempt=st.booleans(),
    retry_after_ms=st.none() | st.integers(0, 100_000),
)


@given(policy=POLICIES, data=st.data())
@settings(max_examples=300, deadline=None)
def test_one_life_under_any_failures(policy: RetryPolicy, data: st.DataObject) -> None:
    """Tries that count stay within ``max_attempts`` (I15), a hold counts none, nothing is due before the policy or the
    target says, the lanes are gone through one by one."""
    lane, attempt, holds, counted = -1, 0, 0, 0
    for ended in data.draw(st.lists(FAILURES, min_size=40, max_size=40)):
        closed = data.draw(st.booleans())
        chance = data.draw(st.floats(0, 1))
        found = decide(ended, policy=policy, attempt=attempt, holds=holds, breaker_closed=closed, chance=chance)
        if ended.retriable and ended.outage and not closed:
            assert found.verdict is Verdict.HOLD, "an outage spent an attempt"
        if found.verdict is Verdict.HOLD:
            assert found.attempt == attempt
            assert ended.retriable
            holds += 1
        else:
            counted += 1
            assert found.attempt == attempt + 1 == counted
            holds = 0
        assert counted <= policy.max_attempts
        if found.verdict in (Verdict.HOLD, Verdict.RETRY_IN_PLACE):
            assert found.delay_ms >= max(1, ended.retry_after_ms or 0)
            assert found.lane is None
        if found.verdict is Verdict.RETRY_LANE:
            assert found.lane is not None
            assert found.lane == lane + 1
            assert found.delay_ms == policy.lanes_ms[found.lane]
            lane = found.lane
        if found.verdict is Verdict.DEAD_LETTER:
            return
        attempt = found.attempt


@given(policy=POLICIES)
def test_what_always_fails_the_same_way_dies_after_exactly_max_attempts(policy: RetryPolicy) -> None:
    attempt = 0
    verdicts: list[Verdict] = []
    while not verdicts or verdicts[-1] is not Verdict.DEAD_LETTER:
        found = decided(MAY_PASS, policy=policy, attempt=attempt)
        verdicts.append(found.verdict)
        attempt = found.attempt
    assert len(verdicts) == policy.max_attempts
    assert verdicts.count(Verdict.RETRY_LANE) == len(policy.lanes_ms)


def test_a_message_that_is_only_ever_put_off_dies_too_while_the_breaker_is_closed() -> None:
    policy, attempt, holds, tries = replace(POLICY, max_holds=2), 0, 0, 0
    while True:
        tries += 1
        found = decided(LATER, policy=policy, attempt=attempt, holds=holds)
        if found.verdict is Verdict.DEAD_LETTER:
            break
        holds = holds + 1 if found.verdict is Verdict.HOLD else 0
        attempt = found.attempt
    assert tries == policy.max_attempts * (policy.max_holds + 1)
