"""`replay plan`: options that do not go together are refused before anything is connected; what a plan looks like."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from test_replay_plan import HEADER

from broker_bridge.cli.replay_plan import plan
from broker_bridge.cli.replay_view import plan_text
from broker_bridge.core.replay_plan import PlanEnd, PlanHeader, Prediction
from broker_bridge.errors import BridgeError, NotFoundError, UsageError

CONFIG = """
[bridge]
service = "payments"
schemas = "."
[kafka]
bootstrap = "127.0.0.1:1"
[redis]
url = "redis://127.0.0.1:1/0"
[[route]]
name = "payments"
group = "payments"
topic = "orders.placed"
[route.target]
kind = "python"
handler = "shop.handlers:capture"
"""


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        (["--source", "file"], UsageError, "belong together"),
        (["--file", "x"], UsageError, "belong together"),
        (["--source", "topic", "--topic", "t", "--since", "2h"], UsageError, "--topic names a dead-letter topic"),
        (["--source", "topic"], UsageError, "needs a range"),
        (["--source", "topic", "--from-offset", "3"], UsageError, "one partition"),
        (["--source", "topic", "--since", "2h", "--code", "malformed"], UsageError, "chosen by codes"),
        (["--source", "topic", "--since", "soon"], UsageError, "not a time"),
        (["--where", "amount >"], UsageError, "where"),
        (["--patch", "none.json"], NotFoundError, "no such patch"),
        (["--set", "currency"], UsageError, "sets nothing"),
    ],
)
def test_mistakes_are_told_before_anything_is_connected(
    options: list[str], kind: type[BridgeError], says: str, tmp_path: Path
) -> None:
    (tmp_path / "bridge.toml").write_text(CONFIG)
    arguments = ["--config", str(tmp_path / "bridge.toml"), "--why", "fixed", "--out", str(tmp_path / "a.plan")]
    result = CliRunner().invoke(plan, arguments + options)
    assert isinstance(result.exception, kind), result.output
    assert says in str(result.exception)


@pytest.mark.parametrize("rate", ["nan", "inf", "0", "-1"])
def test_a_rate_that_is_none_is_refused(rate: str, tmp_path: Path) -> None:
    (tmp_path / "bridge.toml").write_text(CONFIG)
    result = CliRunner().invoke(
        plan,
        ["--config", str(tmp_path / "bridge.toml"), "--why", "fixed", "--rate", rate, "--out", str(tmp_path / "a")],
    )
    assert result.exit_code == 2, result.output
    assert "--rate" in result.output
    assert not (tmp_path / "a").exists()


def test_an_empty_patch_and_a_plan_that_exists_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bridge.toml").write_text(CONFIG)
    (tmp_path / "empty.json").write_text("[]")
    (tmp_path / "a.plan").write_text("kept")
    start = ["--config", str(tmp_path / "bridge.toml"), "--why", "fixed", "--out", str(tmp_path / "a.plan")]
    empty = CliRunner().invoke(plan, [*start, "--patch", str(tmp_path / "empty.json")])
    assert "the patch is empty" in str(empty.exception)
    there = CliRunner().invoke(plan, start)
    assert "exists already" in str(there.exception)
    assert (tmp_path / "a.plan").read_text() == "kept"


def told(prediction: Prediction, **changes: object) -> str:
    values = {name: getattr(HEADER, name) for name in PlanHeader.__slots__} | {"prediction": prediction, **changes}
    end = PlanEnd(prediction.to_replay, 0, "rp-1", "00")
    return plan_text(PlanHeader(**values), end, Path("a.plan"), run="broker-bridge replay run a.plan", diff=None)


def test_a_forced_plan_says_so_in_capitals() -> None:
    text = told(Prediction(selected=3, to_replay=3, forced=2), force=True, rate_per_s=2.0, expected_s=3723.0)
    assert "FORCED: 2 completed messages will be executed AGAIN. Why: the card service is back" in text
    assert "1 h 2 min" in text
    assert "--execute --confirm-count 3" in text


def test_order_is_told_plainly_as_each_policy_has_it() -> None:
    count = Prediction(selected=4, to_replay=4, breaks_order=3, predicted_stale=2)
    assert "executed all the same" in told(count, order="as-is")
    skipping = told(count, order="skip-stale")
    assert "executed all the same" not in skipping
    assert "2     will be turned away as stale" in skipping


def test_what_stays_names_its_places_and_what_lets_it_in() -> None:
    text = told(
        Prediction(selected=3, to_replay=1, claim_expired=1, undecodable=1, undecodable_at=("payments.dlq/0/4",))
    )
    assert "--allow-expired" in text
    assert "payments.dlq/0/4" in text
