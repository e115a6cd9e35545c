"""``broker-bridge history``: the table, the story of a plan, and what is said of the rest of the topic."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest

from broker_bridge.cli.history import History
from broker_bridge.cli.history_view import counts_text, history_result, history_text, remarks, runs_without_end
from broker_bridge.core.operation import Action, Operation
from broker_bridge.message import Position
from broker_bridge.replay.operations_log import Extent

ONE = Operation(
    id="1",
    at_ms=1_790_000_000_000,
    action=Action.REPLAY_PLANNED,
    by="ada",
    host="till-1",
    why="cards work again",
    route="payments",
    plan_id="a1b2c3d4",
    plan_sha256="ff" * 32,
    counts={"to_replay": 1_042, "stale": 0},
    details={"order": "as-is", "edit": None},
)


WHOLE = Extent(0, 9)


def history(*operations: Operation, extent: Extent | None = WHOLE, limit: int | None = None) -> History:
    found = History("ops", deque(maxlen=limit), extent=extent)
    for operation in operations:
        found.add(operation)
    return found


def doing(*actions: str) -> list[Operation]:
    return [replace(ONE, id=str(number), action=action) for number, action in enumerate(actions)]


def test_a_plan_is_told_as_a_story() -> None:
    ended = replace(ONE, action=Action.REPLAY_ENDED, by="bob", why="", counts={"sent": 0}, details={})
    started = replace(ONE, action=Action.REPLAY_STARTED, why="", counts={}, details={})
    text = history_text(history(ONE, started, ended, started), of_plan=True)
    assert text == "\n".join(
        [
            "Plan a1b2c3d4, route payments",
            f"  sha256 {'ff' * 32}",
            "  2026-09-21T14:13:20Z  planned by ada@till-1: cards work again",
            "      1,042 to replay",
            "      order: as-is",
            "      edit: null",
            "  2026-09-21T14:13:20Z  run started by ada@till-1",
            "  2026-09-21T14:13:20Z  run ended by bob@till-1",
            "      0 sent",
            "  2026-09-21T14:13:20Z  run started by ada@till-1",
            "      no end is recorded: it still runs, or was killed",
        ]
    )


def test_two_hashes_under_one_id_are_told() -> None:
    text = history_text(history(ONE, replace(ONE, plan_sha256="00" * 32)), of_plan=True)
    assert "MORE THAN ONE HASH" in str(text)


@pytest.mark.parametrize(
    ("actions", "open_runs"),
    [
        ([], []),
        (["replay_planned", "replay_started", "replay_ended", "replay_verified"], []),
        (["replay_started", "replay_started", "replay_ended"], [0]),
        (["replay_started", "replay_paused", "replay_ended"], []),
        (["replay_started", "replay_paused", "replay_started"], [0, 2]),
        (["replay_ended", "replay_started", "replay_verified"], [1]),
    ],
)
def test_runs_that_were_killed(actions: list[str], open_runs: list[int]) -> None:
    assert list(runs_without_end(doing(*actions))) == open_runs


def test_the_newest_stay_and_the_rest_is_counted() -> None:
    found = history(*doing("a", "b", "c"), limit=2)
    result = history_result(found)
    assert [one["action"] for one in result["operations"]] == ["b", "c"]
    assert result["operations"][0]["at"] == "2026-09-21T14:13:20.000Z"
    assert result["more"] == 1
    assert list(remarks(found)) == ["1 older ones are not shown; narrow the filters or raise --limit."]


def test_what_is_wrong_with_the_topic_is_told() -> None:
    found = history(ONE, extent=Extent(7, 99))
    for offset in range(50):
        found.refuse(Position("ops", 0, offset), "is no JSON")
    said = "\n".join(remarks(found))
    assert "begins at offset 7" in said
    assert "retention.ms" in said
    assert "50 records" in said
    assert "ops/0/0 is no JSON" in said
    assert len(history_result(found)["unreadable_first"]) == 10
    assert history_result(found)["removed_before"] == 7


def test_nothing_there_is_a_sentence() -> None:
    assert "topic ops does not exist" in str(history_text(history(extent=None), of_plan=False))
    assert "No operation of this kind" in str(history_text(history(), of_plan=True))


def test_counts() -> None:
    assert counts_text(ONE) == "1,042 to replay"
    assert counts_text(replace(ONE, counts={"sent": 0, "dead_again": 0})) == "0 sent, 0 dead again"
    assert counts_text(replace(ONE, counts={})) == ""
