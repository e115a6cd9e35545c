"""The judge of chaos runs, on evidence made by hand: each rule holds where it should, and is flagged where broken."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker_bridge.chaos.evidence import Delivery, Effect, Evidence, Happening, Sent
from broker_bridge.chaos.verdict import Terms, Verdict, Window, judge
from broker_bridge.core.audit import Outcome
from broker_bridge.core.reconcile import BookEntry
from broker_bridge.message import Position

TERMS = Terms(lease_ms=3_000, max_attempts=3)
A, B = 11, 22
"""Two workers."""


def at(offset: int) -> Position:
    return Position("orders", 0, offset)


def call(key: str, *, offset: int, from_ms: float, worker: int = A, token: int = 1, **more: object) -> Delivery:
    made = Delivery(key, "c1", at(offset), token, 1, 0, worker, from_ms, from_ms + 10, "ok")
    return made._replace(**more)


def effect(delivery: Delivery) -> Effect:
    return Effect(delivery.key, delivery.token, delivery.attempt, delivery.crashes, delivery.started_ms + 5)


def story(*deliveries: Delivery, sent: list[Sent] | None = None, outcome: Outcome = Outcome.COMPLETED) -> Evidence:
    """Each key sent once, at its delivery's origin, and entered in the books."""
    origins = dict(sorted((delivery.key, delivery.origin) for delivery in deliveries))
    return Evidence(
        sent=sent if sent is not None else [Sent(key, "c1", "ok", origin) for key, origin in origins.items()],
        deliveries=sorted(deliveries, key=lambda delivery: delivery.started_ms),
        effects=[effect(delivery) for delivery in deliveries],
        entries=[BookEntry(origin, key, b"c1", outcome) for key, origin in origins.items()],
    )


def judged(evidence: Evidence, *happenings: Happening, terms: Terms = TERMS) -> Verdict:
    return judge(replace(evidence, happenings=list(happenings)), terms, recovered_s=1.0)


def violations(verdict: Verdict) -> dict[str, int]:
    return dict(verdict.counts)


CLEAN = story(call("a", offset=0, from_ms=0), call("b", offset=1, from_ms=20))


def test_a_clean_run_passes_with_its_figures() -> None:
    verdict = judged(CLEAN)
    assert verdict.passed
    assert (verdict.sent, verdict.acknowledged, verdict.effects, verdict.keys, verdict.losses) == (2, 2, 2, 2, 0)


def test_acknowledged_and_not_in_the_log_is_a_loss() -> None:
    lost = replace(CLEAN, sent=[*CLEAN.sent, Sent("c", "c1", "ok", at(2))])
    assert violations(judged(lost)) == {"lost (I1)": 1}


def test_what_kafka_never_acknowledged_may_be_missing() -> None:
    assert judged(replace(CLEAN, sent=[*CLEAN.sent, Sent("c", "c1", "ok", None)])).passed


@pytest.mark.parametrize("outcome", [Outcome.COMPLETED, Outcome.UNACCOUNTED])
def test_settled_without_an_effect_is_a_loss(outcome: Outcome) -> None:
    evidence = replace(story(call("a", offset=0, from_ms=0), outcome=outcome), effects=[])
    assert judged(evidence).losses == 1
    assert judged(evidence).counts["lost (I1)"] == 1


def test_unaccounted_with_an_effect_is_excused_only_where_redis_lost_claims() -> None:
    evidence = story(call("a", offset=0, from_ms=0), outcome=Outcome.UNACCOUNTED)
    assert violations(judged(evidence)) == {"books do not balance (I23)": 1}
    assert judged(evidence, Happening("redis_lost_writes", 50, 60)).passed


def test_where_redis_lost_claims_a_dead_letter_proves_itself() -> None:
    evidence = replace(story(call("a", offset=0, from_ms=0), outcome=Outcome.UNACCOUNTED), effects=[], letters={at(0)})
    poison = replace(evidence, sent=[Sent("a", "c1", "poison", at(0))])
    lost = Happening("redis_lost_writes", 50, 60)
    assert judged(poison, lost).passed
    assert violations(judged(poison)) == {"lost (I1)": 1}
    assert violations(judged(evidence, lost)) == {"dead letter of a sound message": 1}


@pytest.mark.parametrize("outcome", [Outcome.PENDING, Outcome.IN_RETRY, Outcome.IN_PROGRESS])
def test_what_is_still_open_at_the_end_is_told(outcome: Outcome) -> None:
    assert violations(judged(story(call("a", offset=0, from_ms=0), outcome=outcome))) == {"not settled (I1)": 1}


def test_a_sound_message_must_not_die_and_poison_must() -> None:
    dead = replace(story(call("a", offset=0, from_ms=0), outcome=Outcome.DEAD), effects=[])
    assert violations(judged(dead)) == {"dead letter of a sound message": 1}
    poison = replace(dead, sent=[Sent("a", "c1", "poison", at(0))])
    assert judged(poison).passed
    assert judged(poison).dead == 1
    done = replace(CLEAN, sent=[Sent("a", "c1", "poison", at(0)), CLEAN.sent[1]])
    assert violations(judged(done)) == {"completed, though it cannot be handled": 1}


def test_an_effect_of_nothing_is_a_phantom() -> None:
    assert violations(judged(replace(CLEAN, sent=CLEAN.sent[:1]))) == {"phantom (I2)": 1}


def test_w1_needs_the_holder_to_have_died_in_between() -> None:
    first = call("a", offset=0, from_ms=0, ended_ms=None, outcome=None)
    again = call("a", offset=0, from_ms=4_000, worker=B, token=2, crashes=1)
    died = Happening("died", 30, 30, A)
    explained = judged(story(first, again), died)
    assert explained.passed
    assert explained.repeats == {Window.W1: 1}
    for other in (Happening("died", 30, 30, B), Happening("died", 5_000, 5_000, A)):
        assert judged(story(first, again), other).unexplained == 1
    unannounced = again._replace(crashes=0)
    assert judged(story(first, unannounced), died).unexplained == 1, "the next holder was not told"


def test_w2_needs_a_pause_and_a_lease_that_ran_out() -> None:
    first = call("a", offset=0, from_ms=0, ended_ms=4_500)
    again = call("a", offset=0, from_ms=3_500, worker=B, token=2, crashes=1)
    paused = Happening("paused", 100, 4_400, A)
    assert judged(story(first, again), paused).repeats == {Window.W2: 1}
    assert judged(story(first, again), paused).passed
    assert judged(story(first, again)).unexplained == 1
    soon = again._replace(started_ms=1_000)
    assert judged(story(first, soon), paused).unexplained == 1


def test_w2_is_also_the_late_effect_of_the_one_who_woke_up() -> None:
    late = call("a", offset=0, from_ms=0, ended_ms=9_010)
    taken_over = call("a", offset=0, from_ms=6_000, worker=B, token=2, crashes=1)
    evidence = story(late, taken_over)
    evidence = replace(evidence, effects=[effect(taken_over), Effect("a", 1, 1, 0, 9_005)])
    paused = Happening("paused", 2, 9_000, A)
    assert judged(evidence, paused).repeats == {Window.W2: 1}
    assert judged(evidence, paused).passed
    assert judged(evidence, Happening("paused", 2, 9_000, B)).unexplained == 1
    assert judged(evidence).unexplained == 1


def test_w3_needs_writes_lost_in_between() -> None:
    first, again = call("a", offset=0, from_ms=0), call("a", offset=0, from_ms=900, worker=B, token=1)
    assert judged(story(first, again), Happening("redis_lost_writes", 400, 500)).repeats == {Window.W3: 1}
    assert judged(story(first, again), Happening("redis_lost_writes", 950, 990)).unexplained == 1


def test_a_target_that_failed_after_its_effect_is_sent_the_key_again() -> None:
    first = call("a", offset=0, from_ms=0, outcome="target_unavailable")
    again = call("a", offset=0, from_ms=900, attempt=2)
    assert judged(story(first, again)).repeats == {Window.RESENT: 1}
    assert judged(story(first._replace(outcome="ok"), again)).unexplained == 1


def test_a_repeat_without_any_window_is_flagged() -> None:
    verdict = judged(story(call("a", offset=0, from_ms=0), call("a", offset=0, from_ms=900)))
    assert violations(verdict) == {"repeated without a window (I9)": 1}


def test_first_effects_follow_the_log_for_each_key() -> None:
    evidence = story(call("b", offset=1, from_ms=0), call("a", offset=0, from_ms=20))
    assert violations(judged(evidence)) == {"out of order (I12)": 1}
    assert judged(evidence, terms=replace(TERMS, keeps_order=False)).passed
    other = story(call("b", offset=1, from_ms=0), call("a", offset=0, from_ms=20, record_key="c2"))
    assert judged(other).passed


def test_two_workers_at_once_are_flagged() -> None:
    first = call("a", offset=0, from_ms=0, ended_ms=1_000, outcome="cancelled")
    second = call("a", offset=0, from_ms=500, worker=B, token=2)
    evidence = replace(story(first, second), effects=[effect(second)])
    assert violations(judged(evidence)) == {"two at once (I8)": 1}
    same_token = replace(story(first, second._replace(token=1)), effects=[effect(first)])
    assert judged(same_token).counts["two at once (I8)"] == 1


def test_tokens_never_go_back() -> None:
    first = call("a", offset=0, from_ms=0, token=5, outcome="cancelled")
    second = call("a", offset=0, from_ms=500, worker=B, token=4)
    evidence = replace(story(first, second), effects=[effect(second)])
    assert violations(judged(evidence)) == {"token went back (I8)": 1}
    assert judged(evidence, Happening("redis_lost_writes", 100, 200)).passed


def test_executions_are_bounded_by_attempts_and_interruptions() -> None:
    calls = [call("a", offset=0, from_ms=100 * number, outcome="ValueError") for number in range(4)]
    evidence = replace(story(*calls), effects=[effect(calls[-1])])
    assert violations(judged(evidence)) == {"too many executions (I15)": 1}
    assert judged(evidence, Happening("died", 150, 150, A)).passed
    assert judged(evidence, terms=replace(TERMS, bounds_attempts=False)).passed


@pytest.mark.parametrize("recovered_s", [None, 61.0])
def test_recovery_has_a_deadline(recovered_s: float | None) -> None:
    assert dict(judge(CLEAN, TERMS, recovered_s=recovered_s).counts) == {"not recovered (I21)": 1}


def test_offsets_that_moved_back_and_books_that_do_not_add_up_are_told() -> None:
    evidence = replace(CLEAN, group_moved_back=["orders/0: from 5 to 3"], books_add_up=False)
    assert violations(judged(evidence)) == {"offset moved back (I4)": 1, "books do not add up (I23)": 1}
