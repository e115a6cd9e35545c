"""What an operator may type, and what is told when it makes no sense."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from broker_bridge.cli.operator_scope import ago, moment_ms, place_of
from broker_bridge.core.reconcile import TargetLine
from broker_bridge.errors import NotFoundError, UsageError
from broker_bridge.message import Position
from broker_bridge.replay.target_log import read_target_log

NOW_MS = 1_790_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("2h", NOW_MS - 7_200_000),
        ("90s", NOW_MS - 90_000),
        ("2026-09-21T14:13:20Z", 1_790_000_000_000),
        ("2026-09-21T16:13:20.500+02:00", 1_790_000_000_500),
        ("2026-09-21T14:13:20", 1_790_000_000_000),
    ],
)
def test_times(text: str | None, expected: int | None) -> None:
    assert moment_ms(text, now_ms=NOW_MS, option="--since") == expected


@pytest.mark.parametrize("text", ["", "yesterday", "-2h", "2026-13-01"])
def test_what_is_no_time_is_told_with_the_option(text: str) -> None:
    with pytest.raises(UsageError, match="--since") as caught:
        moment_ms(text, now_ms=NOW_MS, option="--since")
    assert "2h" in caught.value.remedy


@pytest.mark.parametrize("text", ["3/17", "3:17", "payments.orders.placed.dlq/3/17"])
def test_places(text: str) -> None:
    assert place_of(text) == (3, 17)


@pytest.mark.parametrize("text", ["", "17", "a/b", "3/-1", "3/", "3/17/x"])
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(UsageError, match="not a place"):
        place_of(text)


def test_how_long_ago() -> None:
    found = [
        ago(NOW_MS - passed, now_ms=NOW_MS) for passed in (0, 119_000, 120_000, 7_199_000, 7_200_000, 2 * 86_400_000)
    ]
    assert found == ["0s ago", "119s ago", "2m ago", "119m ago", "2h ago", "2d ago"]
    assert ago(NOW_MS + 5_000, now_ms=NOW_MS) == "0s ago"


def test_a_target_log_is_read_with_defaults_and_without_the_line_being_written(tmp_path: Path) -> None:
    path = tmp_path / "log"
    full = {"seq": 2, "kind": "repeat", "key": "k", "attempt": 2, "crashes": 1, "replay_id": "rp", "origin": "t/0/5"}
    path.write_text(json.dumps({"key": "k"}) + "\n\n" + json.dumps(full) + "\n" + '{"key":"cut')
    assert list(read_target_log(path)) == [
        TargetLine(1, "k"),
        TargetLine(3, "k", "repeat", 2, 1, "rp", Position("t", 0, 5)),
    ]


@pytest.mark.parametrize(
    "line", ["no json", "[]", "{}", '{"key":""}', '{"key":"k","kind":"eaten"}', '{"key":"k","attempt":"2"}']
)
def test_a_wrong_line_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text('{"key":"k"}\n' + line + "\n")
    with pytest.raises(UsageError) as caught:
        list(read_target_log(path))
    assert caught.value.where == f"{path}:2"


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        list(read_target_log(tmp_path / "none"))
    with pytest.raises(UsageError):
        list(read_target_log(tmp_path))
