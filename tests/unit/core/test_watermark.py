"""The watermark beside a model that keeps a plain set of what is open."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker_bridge.core.watermark import Watermark


class WatermarkBesideASet(RuleBasedStateMachine):
    """Offsets are read in order, with gaps, and settled in any order, some twice, some that were never read."""

    def __init__(self) -> None:
        super().__init__()
        self.watermark = Watermark()
        self.read: list[int] = []
        self.open: set[int] = set()
        self.highest_commit = 0

    @rule(gap=st.integers(0, 3))
    def track(self, gap: int) -> None:
        offset = (self.read[-1] + 1 if self.read else 0) + gap
        self.watermark.track(offset)
        self.read.append(offset)
        self.open.add(offset)

    @rule(which=st.integers(0, 200))
    def settle(self, which: int) -> None:
        if self.read:
            offset = self.read[which % len(self.read)]
            self.watermark.settle(offset)
            self.open.discard(offset)

    @rule(ahead=st.integers(0, 5))
    def settle_what_was_not_read(self, ahead: int) -> None:
        self.watermark.settle((self.read[-1] + 1 if self.read else 0) + ahead)

    @rule(back=st.integers(0, 5))
    def track_again(self, back: int) -> None:
        if self.read:
            with pytest.raises(ValueError, match="was tracked after"):
                self.watermark.track(self.read[-1] - back)

    @invariant()
    def never_past_an_open_offset(self) -> None:
        expected = min(self.open, default=self.read[-1] + 1 if self.read else None)
        assert self.watermark.committable == expected

    @invariant()
    def never_backwards(self) -> None:
        committable = self.watermark.committable or 0
        assert committable >= self.highest_commit
        self.highest_commit = committable

    @invariant()
    def counts(self) -> None:
        assert self.watermark.unsettled == len(self.open)
        first = min(self.open, default=None)
        assert self.watermark.span == (0 if first is None else sum(offset >= first for offset in self.read))


TestWatermarkBesideASet = WatermarkBesideASet.TestCase
TestWatermarkBesideASet.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def test_nothing_may_be_committed_before_anything_was_read() -> None:
    watermark = Watermark()
    watermark.settle(0)
    assert watermark.committable is None


def test_the_first_open_offset_holds_back_everything_behind_it() -> None:
    watermark = Watermark()
    for offset in (5, 6, 9):
        watermark.track(offset)
    watermark.settle(6)
    watermark.settle(9)
    assert (watermark.committable, watermark.unsettled, watermark.span) == (5, 1, 3)
    watermark.settle(5)
    assert (watermark.committable, watermark.unsettled, watermark.span) == (10, 0, 0)


def test_an_offset_settled_before_it_was_read_still_has_to_be_settled() -> None:
    watermark = Watermark()
    watermark.track(1)
    watermark.settle(2)
    watermark.track(2)
    watermark.settle(1)
    assert watermark.committable == 2
