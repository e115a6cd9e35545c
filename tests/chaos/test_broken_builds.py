"""A harness that cannot fail is worth nothing: the same experiments with an engine broken on purpose must be flagged.

Workers import ``sitecustomize`` from a folder that only they are given; it breaks one rule of the engine.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from broker_bridge.chaos.experiment import Result
from broker_bridge.chaos.servers import Servers

COMMITS_HIGHEST_SEEN = """
from broker_bridge.core.watermark import Watermark
Watermark.committable = property(lambda self: self._next)
"""
NO_CLAIMS = """
import itertools
from broker_bridge.core.claim import ClaimAnswer, ClaimStatus
from broker_bridge.idempotency.redis import RedisStore
tokens = itertools.count(1)
async def claim(self, group, requests, *, lease_ms):
    return [ClaimAnswer(ClaimStatus.GRANTED, token=next(tokens)) for _ in requests]
RedisStore.claim = claim
"""
FORGETS_WHO_WAITS = """
from broker_bridge.core.parking import ParkingLot
ParkingLot.lane_ahead = lambda self, key, offset: None
"""
SETTLES_BEFORE_THE_DEAD_LETTER = """
from broker_bridge.message import Position
from broker_bridge.worker.settler import Settler
async def publish(self, outcomes):
    for outcome in outcomes:
        outcome.position = Position(outcome.record.topic, 0, 0)
Settler._publish = publish
"""


@pytest.mark.parametrize(
    ("broken", "fault", "flagged"),
    [
        pytest.param(COMMITS_HIGHEST_SEEN, "worker-kill", "lost (I1)", id="commits the highest offset it has seen"),
        pytest.param(NO_CLAIMS, "none", "repeated without a window (I9)", id="claims nothing", marks=pytest.mark.soak),
        pytest.param(
            FORGETS_WHO_WAITS, "none", "out of order (I12)", id="forgets who waits behind whom", marks=pytest.mark.soak
        ),
        pytest.param(
            SETTLES_BEFORE_THE_DEAD_LETTER,
            "none",
            "lost (I1)",
            id="never sends what it says it has sent",
            marks=pytest.mark.soak,
        ),
    ],
)
def test_is_flagged(
    broken: str,
    fault: str,
    flagged: str,
    one_broker: Servers,
    attempt: Callable[..., Result],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(broken)
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    result = attempt(one_broker, fault, hold_s=2, recover_within_s=15, environment={"PYTHONPATH": path})
    assert result.verdict is not None
    assert not result.verdict.passed
    assert result.verdict.counts[flagged] > 0, result.verdict.counts
