"""What may follow a worker that died at a named moment: each rule holds where it should, and can be broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker_bridge.chaos.evidence import Delivery, Effect, Evidence
from broker_bridge.chaos.faults.aimed_kills import CAME_AGAIN, CRASH_MISCOUNTED, OUTSIDE_ITS_WINDOW, review_strike
from broker_bridge.chaos.moments import Aim, Crossroads, Moment, Strike
from broker_bridge.chaos.verdict import Verdict
from broker_bridge.message import Position


def strike(moment: Moment, *, keys: tuple[str, ...] = ("a",), **more: tuple[str, ...]) -> Strike:
    return Strike(moment=moment, worker=11, at_ms=100.0, keys=keys, **more)


def again(key: str, *, crashes: int = 1) -> Delivery:
    return Delivery(key, "c1", Position("orders", 0, 0), 2, 1, crashes, 22, 4_000.0, 4_010.0, "ok")


def effects(*keys: str) -> list[Effect]:
    return [Effect(key, number, 1, 0, float(number)) for number, key in enumerate(keys)]


def objections(found: Strike, evidence: Evidence) -> dict[str, int]:
    verdict = Verdict()
    review_strike(found, evidence, verdict, key_of=lambda key: key)
    return dict(verdict.counts)


def test_only_what_was_begun_may_have_a_second_effect() -> None:
    evidence = Evidence(effects=effects("a", "b", "a"), deliveries=[again("a")])
    assert objections(strike(Moment.AFTER_EFFECT, begun=("a",)), evidence) == {}
    assert objections(strike(Moment.AFTER_CLAIM), evidence) == {OUTSIDE_ITS_WINDOW: 1}


@pytest.mark.parametrize("moment", [Moment.AFTER_CLAIM, Moment.AFTER_RETRY_ACK, Moment.AFTER_DEAD_LETTER_ACK])
def test_what_was_claimed_comes_again_with_one_crash(moment: Moment) -> None:
    assert objections(strike(moment), Evidence(deliveries=[again("a")])) == {}
    assert objections(strike(moment), Evidence(deliveries=[again("a", crashes=0)])) == {CRASH_MISCOUNTED: 1}
    assert objections(strike(moment), Evidence(deliveries=[again("a"), again("a", crashes=2)])) == {}, (
        "the first counts"
    )


@pytest.mark.parametrize("moment", [Moment.BEFORE_CLAIM, Moment.DURING_DRAIN])
def test_what_was_not_claimed_or_given_back_comes_again_without(moment: Moment) -> None:
    assert objections(strike(moment), Evidence(deliveries=[again("a", crashes=0)])) == {}
    assert objections(strike(moment), Evidence(deliveries=[again("a")])) == {CRASH_MISCOUNTED: 1}


def test_of_a_batch_cut_in_two_each_half_is_held_to_its_own() -> None:
    cut = strike(Moment.MID_CLAIM, untouched=("b",))
    assert objections(cut, Evidence(deliveries=[again("a"), again("b", crashes=0)])) == {}
    assert objections(cut, Evidence(deliveries=[again("a", crashes=0), again("b")])) == {CRASH_MISCOUNTED: 2}


def test_what_is_completed_must_not_come_again() -> None:
    assert objections(strike(Moment.AFTER_COMPLETE), Evidence(deliveries=[again("b", crashes=0)])) == {}
    assert objections(strike(Moment.AFTER_COMPLETE), Evidence(deliveries=[again("a", crashes=0)])) == {CAME_AGAIN: 1}


def test_calls_before_the_death_say_nothing() -> None:
    before = again("a", crashes=0)._replace(started_ms=50.0)
    assert objections(strike(Moment.AFTER_CLAIM), Evidence(deliveries=[before])) == {}


def test_one_worker_is_hit_and_no_second_one(tmp_path: Path) -> None:
    crossroads = Crossroads(tmp_path)
    assert crossroads.aim() is None
    crossroads.take_aim(Aim(moment=Moment.AFTER_EFFECT, occurrence=3))
    assert crossroads.aim() == Aim(moment=Moment.AFTER_EFFECT, occurrence=3)
    hit = strike(Moment.AFTER_EFFECT, begun=("a",))
    assert crossroads.leave_word(hit)
    assert not crossroads.leave_word(hit)
    assert crossroads.aim() is None
    assert crossroads.strike() == hit
