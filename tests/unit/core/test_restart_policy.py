"""What becomes of all worker processes when one has ended."""

from __future__ import annotations

import pytest

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.core.restart_policy import (
    BEYOND_RESTART,
    INTERRUPTED,
    SERVERS_AWAY,
    EndAll,
    Past,
    RestartPolicy,
    StartAgain,
    after_end,
    worst_status,
)

POLICY = RestartPolicy(first_delay_ms=500, longest_delay_ms=3_000, steady_ms=60_000, most_short_lives=5)
NEW, OLD = Past(), Past(lives=3, short=2, crashes=2)
SHORT, LONG = 1_000, 60_000


def test_statuses_are_those_of_the_command_line() -> None:
    assert {ExitCode.BAD_INPUT, ExitCode.NOT_FOUND, ExitCode.REFUSED} == BEYOND_RESTART
    assert (ExitCode.UNAVAILABLE, ExitCode.INTERRUPTED) == (SERVERS_AWAY, INTERRUPTED)


@pytest.mark.parametrize(
    ("past", "status", "lived_ms", "expected"),
    [
        (NEW, 2, SHORT, EndAll(2)),
        (OLD, 3, SHORT, EndAll(3)),
        (OLD, 5, LONG, EndAll(5)),
        (NEW, 4, SHORT, EndAll(4)),
        (NEW, 4, LONG, StartAgain(500, Past(1))),
        (Past(1), 4, SHORT, StartAgain(500, Past(2, 1, 0))),
        (Past(9, 8, 4), 4, SHORT, StartAgain(3_000, Past(10, 9, 4))),
        (NEW, -9, SHORT, StartAgain(500, Past(1, 1, 1))),
        (OLD, -11, SHORT, StartAgain(2_000, Past(4, 3, 3))),
        (OLD, 70, LONG, StartAgain(500, Past(4))),
        (NEW, 0, SHORT, StartAgain(500, Past(1, 1, 1))),
        (Past(4, 4, 4), -9, SHORT, EndAll(None)),
        (Past(4, 4, 4), -9, LONG, StartAgain(500, Past(5))),
    ],
)
def test_what_follows(past: Past, status: int, lived_ms: int, expected: StartAgain | EndAll) -> None:
    assert after_end(POLICY, past, status=status, lived_ms=lived_ms) == expected


def test_one_that_keeps_crashing_is_started_later_and_later_and_then_no_more() -> None:
    past, delays = NEW, []
    while isinstance(found := after_end(POLICY, past, status=-9, lived_ms=SHORT), StartAgain):
        delays.append(found.after_ms)
        past = found.past
    assert delays == [500, 1_000, 2_000, 3_000]
    assert found == EndAll(None)


def test_servers_that_stay_away_after_a_start_are_waited_for_without_end() -> None:
    past = Past(lives=1)
    for _ in range(100):
        found = after_end(POLICY, past, status=SERVERS_AWAY, lived_ms=SHORT)
        assert isinstance(found, StartAgain)
        assert found.after_ms <= POLICY.longest_delay_ms
        past = found.past


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [([], 0), ([0, 0], 0), ([0, 6], 6), ([6, 70, 0], 70), ([0, -9, 70], 137), ([-15, -2, 130], 0), ([-15, 6], 6)],
)
def test_the_worst_of_those_that_were_asked_to_end(statuses: list[int], expected: int) -> None:
    assert worst_status(statuses) == expected
