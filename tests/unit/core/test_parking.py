"""The parking lot beside a dictionary, and the rule that nobody overtakes, played through on lanes that are lists."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker_bridge.core.parking import ParkingLot

KEYS = st.sampled_from([b"a", b"b", b""])
OFFSETS = st.integers(0, 12)
ALL = [(key, offset) for key in (b"a", b"b", b"") for offset in range(13)]


class ParkingLotBesideADict(RuleBasedStateMachine):
    """Any copies, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.lot = ParkingLot()
        self.model: dict[tuple[bytes, int], tuple[int, int]] = {}

    @rule(key=KEYS, offset=OFFSETS, lane=st.integers(0, 3), due_ms=st.integers(0, 5))
    def park(self, key: bytes, offset: int, lane: int, due_ms: int) -> None:
        self.lot.park(key, offset, lane, due_ms=due_ms)
        if due_ms >= self.model.get((key, offset), (0, 0))[0]:
            self.model[key, offset] = due_ms, lane

    @rule(key=KEYS, offset=OFFSETS)
    def unpark(self, key: bytes, offset: int) -> None:
        self.lot.unpark(key, offset)
        self.model.pop((key, offset), None)

    @invariant()
    def agrees(self) -> None:
        assert len(self.lot) == len(self.model)
        for key, offset in ALL:
            assert self.lot.contains(key, offset) == ((key, offset) in self.model)
            earlier = [o for k, o in self.model if k == key and o < offset]
            expected = self.model[key, max(earlier)][1] if earlier else None
            assert self.lot.lane_ahead(key, offset) == expected
            live_ms = self.model.get((key, offset), (0, 0))[0]
            assert [self.lot.is_live(key, offset, due_ms=ms) for ms in range(6)] == [ms >= live_ms for ms in range(6)]


TestParkingLotBesideADict = ParkingLotBesideADict.TestCase
TestParkingLotBesideADict.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_messages_of_one_key_end_in_order(data: st.DataObject) -> None:
    """Six messages of one key and three lanes. Each lane gives out its records in order; a message may be tried when
    nothing is ahead of it, and parks otherwise; a try ends it or moves it to the lane of its own count of tries, which
    may be a shorter one than that where it parked."""
    lot, source = ParkingLot(), list(range(6))
    tries = Counter[int]()
    lanes: list[list[int]] = [[], [], []]
    ended: list[int] = []
    for now_ms in range(500):
        queues = [queue for queue in (source, *lanes) if queue]
        if not queues:
            break
        queue = data.draw(st.sampled_from(queues))
        offset = queue.pop(0)
        ahead = lot.lane_ahead(b"k", offset)
        if ahead is not None:
            lanes[ahead].append(offset)
            lot.park(b"k", offset, ahead, due_ms=now_ms)
        elif tries[offset] < 3 and data.draw(st.booleans()):
            lanes[tries[offset]].append(offset)
            lot.park(b"k", offset, tries[offset], due_ms=now_ms)
            tries[offset] += 1
        else:
            ended.append(offset)
            lot.unpark(b"k", offset)
        assert len(lot) == sum(map(len, lanes))
    assert ended == sorted(ended)
    if not any((source, *lanes)):
        assert ended == list(range(6))


def test_an_old_copy_does_not_bring_a_message_back() -> None:
    lot = ParkingLot()
    lot.park(b"k", 4, 0, due_ms=70)
    lot.park(b"k", 4, 1, due_ms=60)
    assert (lot.lane_ahead(b"k", 5), len(lot)) == (0, 1)
    lot.park(b"k", 4, 1, due_ms=130)
    assert (lot.lane_ahead(b"k", 5), len(lot)) == (1, 1)


def test_the_nearest_earlier_message_is_the_one_ahead() -> None:
    lot = ParkingLot()
    lot.park(b"k", 4, 2, due_ms=0)
    lot.park(b"k", 6, 0, due_ms=0)
    assert lot.lane_ahead(b"k", 4) is None
    assert lot.lane_ahead(b"k", 5) == 2
    assert lot.lane_ahead(b"k", 7) == 0
    assert lot.lane_ahead(b"other", 7) is None
    lot.unpark(b"k", 6)
    assert lot.lane_ahead(b"k", 7) == 2
