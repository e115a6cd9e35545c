"""What a worker knows of the partitions that are its own: watermark, parked set, what waits to fall due."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from broker_bridge import headers as h
from broker_bridge.core.disposition import SOURCE
from broker_bridge.core.parking import ParkingLot
from broker_bridge.core.watermark import Watermark
from broker_bridge.message import Position, Record, TopicPartition

if TYPE_CHECKING:
    from broker_bridge.worker.delivery import Delivery


class PartitionState:
    """One partition during one assignment. A later assignment of the same partition is another object.

    ``gone`` is set when the partition is given up: from then on nothing of it starts (invariant I20), and what still
    ends is settled by its claim only. ``waiting`` holds retry-lane records that are not due, in the order of the log;
    while it holds any the partition is not fetched. ``parked`` is shared by the source partition and the lanes of the
    same number.
    """

    __slots__ = (
        "_emptied",
        "committed",
        "gone",
        "in_flight",
        "lane",
        "parked",
        "ready",
        "topics",
        "tp",
        "waiting",
        "watermark",
    )

    def __init__(self, tp: TopicPartition, lane: int, parked: ParkingLot, topics: Collection[str]) -> None:
        self.tp = tp
        self.topics = topics
        self.lane = lane
        self.parked = parked
        self.watermark = Watermark()
        self.waiting: deque[Delivery] = deque()
        self.gone = False
        self.ready = False
        self.committed: int | None = None
        self.in_flight = 0
        self._emptied: asyncio.Event | None = None

    def entered(self, offset: int) -> None:
        """A record of this partition was read. Where reading begins is nothing to commit: the group may be further, by
        a commit of the last owner that arrived late (I4)."""
        if self.committed is None:
            self.committed = offset
        self.watermark.track(offset)
        self.in_flight += 1

    def left(self) -> None:
        """A record of this partition is out of the worker's hands."""
        self.in_flight -= 1
        if self.in_flight == 0 and self._emptied is not None:
            self._emptied.set()

    async def emptied(self) -> None:
        """Return when nothing of this partition is in flight. A rebalance and a stop may wait for it at once."""
        if self.in_flight:
            self._emptied = self._emptied or asyncio.Event()
            await self._emptied.wait()

    def origin_of(self, record: Record) -> Position:
        """Where in the source topic a record of this partition came from.

        A lane's word on it counts where it can be true: partition
        *i* of a lane holds what came from partition *i* of ``topics``, the source and the group's own lanes."""
        if self.lane != SOURCE:
            found = h.identify(record, trusted=True).origin
            if found.topic in self.topics and found.partition == self.tp.partition:
                return found
        return record.position


class Assignment:
    """The partitions that are ours now."""

    def __init__(self, lane_of_topic: dict[str, int]) -> None:
        self._lane_of_topic = lane_of_topic
        self._states: dict[TopicPartition, PartitionState] = {}
        self._lots: dict[int, ParkingLot] = {}

    def gain(self, partitions: Iterable[TopicPartition]) -> list[PartitionState]:
        """Take over partitions; each starts afresh, with an empty parked set that has yet to be rebuilt."""
        gained = []
        for tp in sorted(partitions):
            lot = self._lots.setdefault(tp.partition, ParkingLot())
            self._states[tp] = PartitionState(tp, self._lane_of_topic[tp.topic], lot, self._lane_of_topic)
            gained.append(self._states[tp])
        return gained

    def close(self, partitions: Iterable[TopicPartition]) -> list[PartitionState]:
        """Nothing of these starts any more; they stay listed until ``forget``."""
        closed = [self._states[tp] for tp in partitions if tp in self._states]
        for state in closed:
            state.gone = True
        return closed

    def forget(self, states: Iterable[PartitionState]) -> None:
        """Drop closed partitions and, with the last of a number, its parked set."""
        for state in states:
            if self._states.get(state.tp) is state:
                del self._states[state.tp]
        kept = {tp.partition for tp in self._states}
        self._lots = {number: lot for number, lot in self._lots.items() if number in kept}

    def get(self, tp: TopicPartition) -> PartitionState | None:
        """The state of a partition, None where it is not ours."""
        return self._states.get(tp)

    def states(self) -> list[PartitionState]:
        """All of ours, closed ones included."""
        return list(self._states.values())

    def sources(self) -> list[PartitionState]:
        """Ours of the source topic."""
        return [state for state in self._states.values() if state.lane == SOURCE]

    @property
    def parked(self) -> int:
        """How many messages are in retry lanes and hold or wait for their key."""
        return sum(len(lot) for lot in self._lots.values())
