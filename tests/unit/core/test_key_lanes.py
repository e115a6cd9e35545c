"""Key lanes beside a model: a list for each lane and the set of those that run."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker_bridge.core.key_lanes import KeyLanes

LANES = st.sampled_from("abcd")


class Item(NamedTuple):
    """The serial number tells the order in which items were offered."""

    lane: str
    serial: int
    group: int


class KeyLanesBesideLists(RuleBasedStateMachine):
    """Every interleaving of offer, take, release, postpone and drop; time goes on now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes: KeyLanes[Item] = KeyLanes()
        self.model: dict[str, list[Item]] = {}
        self.running: set[str] = set()
        self.due: dict[str, int] = {}
        self.serial = 0
        self.now_ms = 0
        self.finished: list[Item] = []
        self.dropped: list[Item] = []

    @rule(lane=LANES, group=st.integers(0, 2))
    def offer(self, lane: str, group: int) -> None:
        self.serial += 1
        item = Item(lane, self.serial, group)
        self.lanes.offer(lane, item)
        self.model.setdefault(lane, []).append(item)

    @rule()
    def take(self) -> None:
        may_run = {lane for lane in self.model if lane not in self.running and self.due.get(lane, 0) <= self.now_ms}
        item = self.lanes.take(self.now_ms)
        if item is None:
            assert not may_run, "something may run and was not given out"
            return
        assert item.lane in may_run, "its lane has one running, or it is not due"
        assert item == self.model[item.lane][0], "out of order"
        self.running.add(item.lane)
        self.due.pop(item.lane, None)

    @rule(which=st.integers(0, 9))
    def release(self, which: int) -> None:
        if self.running:
            lane = sorted(self.running)[which % len(self.running)]
            self.lanes.release(lane)
            self.running.remove(lane)
            self.finished.append(self.model[lane].pop(0))
            if not self.model[lane]:
                del self.model[lane]

    @rule(which=st.integers(0, 9), wait_ms=st.integers(0, 50))
    def postpone(self, which: int, wait_ms: int) -> None:
        if self.running:
            lane = sorted(self.running)[which % len(self.running)]
            self.lanes.postpone(lane, due_ms=self.now_ms + wait_ms)
            self.running.remove(lane)
            self.due[lane] = self.now_ms + wait_ms

    @rule(group=st.integers(0, 2))
    def drop(self, group: int) -> None:
        expected: list[Item] = []
        for lane in list(self.model):
            items = self.model[lane]
            runs = items[:1] if lane in self.running else []
            gone = [item for item in items[len(runs) :] if item.group == group]
            if items[0] in gone:
                self.due.pop(lane, None)
            expected += gone
            self.model[lane] = [item for item in items if item not in gone]
            if not self.model[lane]:
                del self.model[lane]
        dropped = self.lanes.drop(lambda item: item.group == group)
        assert sorted(dropped) == sorted(expected)
        self.dropped += dropped

    @rule(step_ms=st.integers(1, 40))
    def time_goes_on(self, step_ms: int) -> None:
        self.now_ms += step_ms

    @invariant()
    def nothing_lost_nothing_twice(self) -> None:
        held = list(self.lanes)
        assert sorted(held) == sorted(item for items in self.model.values() for item in items)
        everything = held + self.finished + self.dropped
        assert sorted(item.serial for item in everything) == list(range(1, self.serial + 1))

    @invariant()
    def counts(self) -> None:
        assert self.lanes.waiting == sum(map(len, self.model.values())) - len(self.running)
        known_due = {lane for lane, due_ms in self.due.items() if due_ms > self.now_ms}
        at_most = len(self.model) - len(self.running) - len(known_due)
        assert 0 <= self.lanes.ready <= at_most

    @invariant()
    def knows_its_lanes(self) -> None:
        assert all((lane in self.lanes) == (lane in self.model) for lane in "abcd")

    @invariant()
    def next_due_is_never_later_than_the_first(self) -> None:
        still_due = [due_ms for due_ms in self.due.values() if due_ms > self.now_ms]
        found = self.lanes.next_due_ms()
        if still_due:
            assert found is not None
            assert found <= min(still_due)
        if found is not None:
            assert found in self.due.values()

    def teardown(self) -> None:
        """Run until empty: each lane comes out in the order offered, and all of it comes out."""
        left = {lane: list(items) for lane, items in self.model.items()}
        for lane in self.running:
            self.lanes.release(lane)
            left[lane].pop(0)
        rest: dict[str, list[Item]] = {lane: [] for lane in left}
        while (item := self.lanes.take(self.now_ms + 1_000)) is not None:
            rest[item.lane].append(item)
            self.lanes.release(item.lane)
        assert rest == left
        assert (self.lanes.waiting, self.lanes.next_due_ms(), list(self.lanes)) == (0, None, [])


TestKeyLanesBesideLists = KeyLanesBesideLists.TestCase
TestKeyLanesBesideLists.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)


def test_a_postponed_head_holds_its_lane_and_no_other() -> None:
    lanes: KeyLanes[str] = KeyLanes()
    for lane, item in (("a", "a1"), ("a", "a2"), ("b", "b1")):
        lanes.offer(lane, item)
    assert lanes.take(0) == "a1"
    lanes.postpone("a", due_ms=100)
    assert lanes.take(0) == "b1"
    assert lanes.take(99) is None
    assert lanes.next_due_ms() == 100
    assert lanes.take(100) == "a1"


def test_lanes_take_turns_in_the_order_their_heads_became_free() -> None:
    lanes: KeyLanes[str] = KeyLanes()
    for item in ("a1", "a2", "b1", "c1"):
        lanes.offer(item[0], item)
    assert lanes.take(0) == "a1"
    lanes.release("a")
    assert [lanes.take(0), lanes.take(0), lanes.take(0)] == ["b1", "c1", "a2"]


def test_what_stands_behind_a_dropped_head_does_not_inherit_its_wait() -> None:
    lanes: KeyLanes[str] = KeyLanes()
    lanes.offer("a", "gone")
    lanes.offer("a", "kept")
    assert lanes.take(0) == "gone"
    lanes.postpone("a", due_ms=3_600_000)
    assert lanes.drop(lambda item: item == "gone") == ["gone"]
    assert lanes.take(0) == "kept"


def test_heads_fall_due_in_order_after_a_drop() -> None:
    lanes: KeyLanes[str] = KeyLanes()
    for item in "abc":
        lanes.offer(item, item)
        assert lanes.take(0) == item
    for lane, due_ms in (("a", 100), ("b", 500), ("c", 200)):
        lanes.postpone(lane, due_ms=due_ms)
    assert lanes.drop(lambda item: item == "a") == ["a"]
    assert lanes.next_due_ms() == 200
    assert (lanes.take(200), lanes.take(200), lanes.take(500)) == ("c", None, "b")


def test_drop_asks_about_each_item_once() -> None:
    lanes: KeyLanes[int] = KeyLanes()
    for item in range(5):
        lanes.offer("a", item)
    asked: list[int] = []

    def every_second_time(item: int) -> bool:
        asked.append(item)
        return len(asked) % 2 == 0

    assert lanes.drop(every_second_time) == [1, 3]
    assert (asked, list(lanes)) == ([0, 1, 2, 3, 4], [0, 2, 4])
