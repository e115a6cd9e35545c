"""How fast a replay goes on, as a table and as arithmetic."""

from __future__ import annotations

import pytest

from broker_bridge.core.replay_pace import (
    ENDED,
    LARGEST_CANARY,
    TRANSITIONS,
    LaneView,
    PaceLimits,
    Phase,
    ReplayPace,
    canary_of,
    transition_table,
)


def paced(**limits) -> ReplayPace:
    return ReplayPace(PaceLimits(**limits), burst=500, now_ms=0)


def flowing(**limits) -> ReplayPace:
    """Auto, looked at once."""
    pace = paced(max_in_lane=10, **limits)
    pace.look(LaneView(0, in_lane=0, read_to=100))
    return pace


def test_without_limits_everything_goes() -> None:
    assert paced().take(500, now_ms=0) == (500, 0.0)
    assert paced(rate_per_s=10).take(500, now_ms=0) == (10, 0.0)


def test_a_fixed_rate_is_kept() -> None:
    pace, now_ms, sent = paced(rate_per_s=100), 0, 0
    while sent < 1_000:
        amount, wait_ms = pace.take(500, now_ms=now_ms)
        sent += amount
        now_ms += round(wait_ms)
    assert 8_900 <= now_ms <= 9_200


def test_the_canary_goes_first_and_is_waited_for() -> None:
    pace = paced(canary=3)
    assert pace.take(3, now_ms=0) == (3, 0.0)
    assert not pace.is_look_due(0)
    pace.canary_is_sent(now_ms=0)
    assert pace.phase is Phase.WATCHING
    assert pace.is_look_due(0)
    assert pace.take(500, now_ms=0)[0] == 0
    assert pace.look(LaneView(100, canary_open=1)) is Phase.WATCHING
    assert pace.look(LaneView(200, canary_open=0)) is Phase.FLOWING
    assert pace.take(500, now_ms=200) == (500, 0.0)


@pytest.mark.parametrize(("may", "died", "phase"), [(0, 1, Phase.CANARY_FAILED), (1, 1, Phase.FLOWING)])
def test_a_canary_that_dies_ends_the_run(may: int, died: int, phase: Phase) -> None:
    pace = paced(canary=3, canary_failures=may)
    pace.canary_is_sent(now_ms=0)
    assert pace.look(LaneView(100, canary_open=0, canary_died=died)) is phase


def test_a_canary_that_does_not_settle_ends_the_run() -> None:
    pace = paced(canary=3, canary_timeout_ms=1_000)
    pace.canary_is_sent(now_ms=500)
    assert pace.look(LaneView(1_499, canary_open=3)) is Phase.WATCHING
    assert pace.look(LaneView(1_500, canary_open=3)) is Phase.CANARY_UNSETTLED
    assert pace.take(1, now_ms=1_500)[0] == 0


def test_no_more_wait_in_the_lane_than_may() -> None:
    pace = flowing()
    assert pace.take(500, now_ms=0) == (10, 0.0)
    assert pace.take(500, now_ms=0)[0] == 0
    assert pace.is_look_due(200), "it is waiting, so it looks soon"
    assert pace.look(LaneView(200, in_lane=10, read_to=100)) is Phase.LANE_FULL
    assert pace.look(LaneView(400, in_lane=6, read_to=104)) is Phase.FLOWING
    assert pace.take(500, now_ms=400) == (4, 0.0)


def test_a_group_that_stands_still_stops_it_and_one_that_moves_lets_it_go_on() -> None:
    pace = flowing(standstill_ms=5_000)
    assert pace.look(LaneView(1_000, in_lane=5, read_to=100)) is Phase.FLOWING
    assert pace.look(LaneView(4_999, in_lane=5, read_to=100)) is Phase.FLOWING
    assert pace.look(LaneView(5_000, in_lane=5, read_to=100)) is Phase.STANDSTILL
    assert pace.still_ms == 5_000
    assert pace.take(1, now_ms=5_000)[0] == 0
    assert pace.look(LaneView(5_200, in_lane=4, read_to=101)) is Phase.FLOWING
    pace.look(LaneView(90_000, in_lane=0, read_to=105))
    assert pace.phase is Phase.FLOWING, "an empty lane is no standstill"


def test_an_open_breaker_stops_it() -> None:
    pace = flowing()
    assert pace.look(LaneView(1_000, read_to=100, is_away=True)) is Phase.TARGET_AWAY
    assert pace.look(LaneView(2_000, read_to=100)) is Phase.FLOWING


def test_too_many_that_die_again_end_it() -> None:
    pace = paced(died_share=0.1, died_least=20)
    pace.take(500, now_ms=0)
    assert pace.look(LaneView(1_000, died=50)) is Phase.FLOWING, "a tenth may"
    assert pace.look(LaneView(2_000, died=51)) is Phase.TOO_MANY_DEAD
    few = paced(died_share=0.1, died_least=20)
    few.take(19, now_ms=0)
    assert few.look(LaneView(1_000, died=19)) is Phase.FLOWING, "so few say nothing"


def test_looks_are_a_second_apart_while_nothing_is_waited_for() -> None:
    pace = flowing()
    assert not pace.is_look_due(999)
    assert pace.is_look_due(1_000)


@pytest.mark.parametrize(
    ("text", "items", "count"),
    [
        ("1%", 9, 0),
        ("1%", 10, 1),
        ("1%", 5_000, 50),
        ("1%", 1_000_000, LARGEST_CANARY),
        ("0%", 5_000, 0),
        ("none", 5_000, 0),
        ("0", 5_000, 0),
        ("500", 5_000, 500),
        ("5", 3, 3),
    ],
)
def test_what_a_canary_is(text: str, items: int, count: int) -> None:
    assert canary_of(text, items) == count


@pytest.mark.parametrize("text", ["", "%", "-1", "101%", "nan%", "a few", "1.5", "²"])
def test_what_a_canary_is_not(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the sentence is the caller's
        canary_of(text, 100)


def test_the_table_is_whole() -> None:
    phases = {row.phase for row in TRANSITIONS}
    assert phases | ENDED == set(Phase)
    assert not phases & ENDED, "nothing follows an end"
    assert "| watching | all are settled | flowing |" in transition_table()
