"""The retry budget against a plain model, alone and shared."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.core.dead_letter_limit import DeadLetterLimit
from broker_bridge.core.retry_budget import BudgetPolicy, RetryBudget

POLICY = BudgetPolicy(ratio=0.2, floor_per_s=1, window_ms=10_000)


def test_the_floor_alone_allows_some_retries_and_then_none() -> None:
    budget = RetryBudget(POLICY)
    made = 0
    while budget.allows(0):
        budget.retried(0)
        made += 1
    assert made == 10


def test_first_attempts_earn_a_share() -> None:
    budget = RetryBudget(POLICY)
    for _ in range(100):
        budget.attempted(0)
    made = 0
    while budget.allows(0):
        budget.retried(0)
        made += 1
    assert made == 30


def test_the_window_forgets() -> None:
    budget = RetryBudget(POLICY)
    for _ in range(10):
        budget.retried(0)
    assert not budget.allows(9_999)
    assert budget.allows(10_100)


@given(st.lists(st.tuples(st.integers(0, 2_000), st.booleans()), max_size=200))
def test_retries_in_any_window_stay_within_the_budget(steps: list[tuple[int, bool]]) -> None:
    budget, now_ms, retries, firsts = RetryBudget(POLICY), 0, [], []
    for wait_ms, wants_retry in steps:
        now_ms += wait_ms
        if not wants_retry:
            budget.attempted(now_ms)
            firsts.append(now_ms)
        elif budget.allows(now_ms):
            budget.retried(now_ms)
            retries.append(now_ms)
        since = now_ms - POLICY.window_ms + 100
        recent = sum(at_ms >= since for at_ms in retries)
        earned = sum(at_ms >= now_ms - POLICY.window_ms - 100 for at_ms in firsts)
        assert recent <= 0.2 * earned + 10 + 1


def test_two_workers_that_report_share_one_budget() -> None:
    ours, theirs = RetryBudget(POLICY), RetryBudget(POLICY)
    total = [0, 0]
    for now_ms in range(0, 5_000, 100):
        for budget in (ours, theirs):
            if budget.allows(now_ms):
                budget.retried(now_ms)
            first, retries = budget.unreported()
            total[0] += first
            total[1] += retries
            budget.report(total[0], total[1], now_ms)
    assert 10 <= total[1] <= 12, "the floor of one target, not of each worker"


def test_a_dead_letter_limit_stays_reached() -> None:
    limit = DeadLetterLimit(count=3, window_ms=1_000)
    assert [limit.allows(at_ms) for at_ms in (0, 400, 1_100, 1_200)] == [True, True, True, True]
    assert not limit.allows(1_300)
    assert limit.reached
    assert not limit.allows(99_000)


def test_what_is_left_is_told_in_whole_retries() -> None:
    budget = RetryBudget(POLICY)
    budget.attempted(0)
    assert budget.left(0) == 11, "0.2 of one first attempt begins one more"
    for _ in range(11):
        assert budget.allows(0)
        budget.retried(0)
    assert budget.left(0) == 0
    budget.retried(0)
    assert budget.left(0) == 0, "overdrawn is not less than nothing"


def test_room_that_many_see_is_not_filled_by_each_of_them() -> None:
    budgets = [RetryBudget(POLICY) for _ in range(4)]
    for budget in budgets:
        budget.attempted(0)
        budget.report(4, 0, 0)
    for budget in budgets:
        while budget.allows(0):
            budget.retried(0)
    made = sum(budget.unreported()[1] for budget in budgets)
    assert 4 <= made <= 10.8, "10 by the floor and 0.2 of each first attempt"


def test_a_worker_that_did_little_may_always_retry_once_until_it_hears_more() -> None:
    budget = RetryBudget(POLICY)
    budget.report(1_000, 0, 0)
    assert budget.left(0) == 1
    budget.retried(0)
    assert budget.left(0) == 0
    budget.report(1_000, 1, 1_000)
    assert budget.left(1_000) == 1


def test_others_that_are_not_heard_of_for_a_window_count_no_more() -> None:
    budget = RetryBudget(POLICY)
    budget.report(0, 10, 1_000)
    assert not budget.allows(10_900)
    assert budget.allows(11_000)
    assert budget.left(11_000) == 10


def test_what_is_made_while_the_store_answers_is_not_taken_for_the_others() -> None:
    budget = RetryBudget(POLICY)
    budget.retried(0)
    assert budget.unreported() == (0, 1)
    budget.retried(0)
    budget.report(0, 1, 0)
    assert budget.left(0) == 8
    assert budget.unreported() == (0, 1)
    budget.report(0, 2, 0)
    assert budget.left(0) == 8
