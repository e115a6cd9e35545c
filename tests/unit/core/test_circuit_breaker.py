"""Poison never opens the breaker, an outage does, and probing is bounded."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker_bridge.core.circuit_breaker import BreakerPolicy, BreakerState, CircuitBreaker

POLICY = BreakerPolicy(window=10, min_failures=4, min_keys=3, failure_ratio=0.5, open_ms=100, max_open_ms=700, probes=2)


def opened(policy: BreakerPolicy = POLICY, *, now_ms: int = 0) -> CircuitBreaker:
    """A breaker that has just opened."""
    breaker = CircuitBreaker(policy)
    for key in range(policy.min_failures):
        breaker.failed(key, now_ms)
    assert breaker.state(now_ms) is BreakerState.OPEN
    return breaker


@given(st.lists(st.booleans(), max_size=300))
def test_one_failing_key_never_opens_it(others: list[bool]) -> None:
    breaker = CircuitBreaker(POLICY)
    for serial, another_succeeds in enumerate(others):
        if another_succeeds:
            breaker.succeeded(f"k{serial}", 0)
        breaker.failed("poison", 0)
        assert breaker.state(0) is BreakerState.CLOSED
        assert breaker.may_admit(0)


def test_two_failing_keys_are_below_min_keys() -> None:
    breaker = CircuitBreaker(POLICY)
    for serial in range(50):
        breaker.failed(serial % 2, 0)
    assert breaker.state(0) is BreakerState.CLOSED


def test_many_failing_keys_open_it_at_exactly_min_failures() -> None:
    breaker = CircuitBreaker(POLICY)
    for key in range(3):
        breaker.failed(key, 0)
        assert breaker.state(0) is BreakerState.CLOSED
    breaker.failed("fourth", 0)
    assert breaker.state(0) is BreakerState.OPEN
    assert not breaker.may_admit(0)


def test_exactly_the_ratio_is_an_outage_and_less_is_none() -> None:
    below, at = CircuitBreaker(POLICY), CircuitBreaker(POLICY)
    for breaker, successes in ((below, 5), (at, 4)):
        for serial in range(successes):
            breaker.succeeded(serial, 0)
        for key in range(4):
            breaker.failed(key, 0)
    assert below.state(0) is BreakerState.CLOSED
    assert at.state(0) is BreakerState.OPEN


def test_only_the_window_is_looked_at() -> None:
    breaker = CircuitBreaker(replace(POLICY, failure_ratio=0.1))
    for key in range(3):
        breaker.failed(key, 0)
    for serial in range(8):
        breaker.succeeded(serial, 0)
    for serial in range(2):
        breaker.failed(f"third and fourth failure {serial}, but the first two have left the window", 0)
        assert breaker.state(0) is BreakerState.CLOSED


@pytest.mark.parametrize("result", ["succeeded", "failed", "abandoned"])
def test_late_results_say_nothing_while_open(result: str) -> None:
    breaker = opened()
    for serial in range(20):
        breaker.abandoned(50) if result == "abandoned" else getattr(breaker, result)(serial, 50)
    assert breaker.state(99) is BreakerState.OPEN
    assert breaker.reopens_in_ms(50) == 50
    assert breaker.state(100) is BreakerState.HALF_OPEN


def test_a_successful_probe_closes_it_and_everything_starts_over() -> None:
    breaker = opened()
    breaker.admitted(100)
    breaker.failed("probe", 100)
    assert breaker.reopens_in_ms(100) == 200
    breaker.admitted(300)
    breaker.succeeded("probe", 300)
    assert breaker.state(300) is BreakerState.CLOSED
    for key in range(3):
        breaker.failed(key, 300)
    assert breaker.state(300) is BreakerState.CLOSED, "failures from before the outage still count"
    breaker.failed("fourth", 300)
    assert breaker.reopens_in_ms(300) == 100, "the delay did not start over"


def test_delays_double_up_to_the_cap() -> None:
    breaker, now_ms, delays = opened(), 0, []
    for _ in range(6):
        delays.append(breaker.reopens_in_ms(now_ms))
        now_ms += delays[-1]
        assert breaker.state(now_ms - 1) is BreakerState.OPEN
        assert breaker.state(now_ms) is BreakerState.HALF_OPEN
        breaker.admitted(now_ms)
        breaker.failed("probe", now_ms)
    assert delays == [100, 200, 400, 700, 700, 700]


def test_probes_are_bounded_and_an_abandoned_one_is_free_again() -> None:
    breaker = opened()
    assert not breaker.may_admit(99)
    for _ in range(2):
        assert breaker.may_admit(100)
        breaker.admitted(100)
    assert not breaker.may_admit(5_000)
    breaker.abandoned(5_000)
    assert breaker.may_admit(5_000)
    breaker.admitted(5_000)
    assert not breaker.may_admit(5_000)


def test_more_abandoned_than_admitted_makes_no_room() -> None:
    breaker = opened(replace(POLICY, probes=1))
    breaker.abandoned(100)
    breaker.abandoned(100)
    breaker.admitted(100)
    assert not breaker.may_admit(100)


def test_reopens_in_is_zero_unless_open() -> None:
    breaker = CircuitBreaker(POLICY)
    assert breaker.reopens_in_ms(0) == 0
    breaker = opened()
    assert breaker.reopens_in_ms(100) == 0
    assert breaker.state(100) is BreakerState.HALF_OPEN
    assert breaker.reopens_in_ms(100) == 0


class BreakerBesideItsTable(RuleBasedStateMachine):
    """A route of messages: what is admitted later ends one way or another. Only what was admitted ends."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = CircuitBreaker(POLICY)
        self.now_ms = 0
        self.running = 0
        self.probing = 0
        self.seen = BreakerState.CLOSED

    def state(self) -> BreakerState:
        """The state now; what is running when it changes belongs to the time before."""
        state = self.breaker.state(self.now_ms)
        if state is not self.seen:
            self.running, self.probing, self.seen = 0, 0, state
        return state

    @rule(step_ms=st.integers(0, 300))
    def time_goes_on(self, step_ms: int) -> None:
        self.now_ms += step_ms

    @rule()
    def admit(self) -> None:
        if self.breaker.may_admit(self.now_ms):
            state = self.state()
            assert state is not BreakerState.OPEN
            self.breaker.admitted(self.now_ms)
            self.running += 1
            self.probing += state is BreakerState.HALF_OPEN

    @rule(key=st.integers(0, 6), result=st.sampled_from(["succeeded", "failed", "failed", "abandoned"]))
    def end(self, key: int, result: str) -> None:
        state = self.state()
        if not self.running:
            return
        self.running -= 1
        self.probing -= state is BreakerState.HALF_OPEN
        if result == "abandoned":
            self.breaker.abandoned(self.now_ms)
        else:
            getattr(self.breaker, result)(key, self.now_ms)
        after = self.breaker.state(self.now_ms)
        if state is BreakerState.HALF_OPEN:
            expected = {"succeeded": BreakerState.CLOSED, "failed": BreakerState.OPEN, "abandoned": state}[result]
            assert after is expected
        elif result != "failed":
            assert after is state
        else:
            assert after in (state, BreakerState.OPEN)

    @invariant()
    def bounded(self) -> None:
        if self.state() is BreakerState.HALF_OPEN:
            assert self.probing <= POLICY.probes
            assert self.breaker.may_admit(self.now_ms) == (self.probing < POLICY.probes)
        assert 0 <= self.breaker.reopens_in_ms(self.now_ms) <= POLICY.max_open_ms


TestBreakerBesideItsTable = BreakerBesideItsTable.TestCase
TestBreakerBesideItsTable.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
