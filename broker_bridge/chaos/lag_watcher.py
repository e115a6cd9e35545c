"""Looks at the group's committed offsets all the time: whether they go forward, and whether they have caught up."""

from __future__ import annotations

import asyncio
import threading

from broker_bridge.bootstrap import open_transport
from broker_bridge.config import BridgeConfig, RouteConfig
from broker_bridge.errors import BridgeError
from broker_bridge.message import TopicPartition

LOOK_EVERY_S = 0.25
Offsets = dict[TopicPartition, int]


class LagWatcher(threading.Thread):
    """``ends`` and ``committed`` are as last seen; while Kafka is away they stay as they were."""

    def __init__(self, config: BridgeConfig, route: RouteConfig) -> None:
        super().__init__(name="lag", daemon=True)
        self._config = config
        self._group = route.group
        self._topics = [route.topic, *route.lane_names.read(route.retry.lanes_ms)]
        self._source = route.topic
        self._finish = threading.Event()
        self.ends: Offsets = {}
        self.committed: Offsets = {}
        self.moved_back: list[str] = []
        self.looks = 0

    def run(self) -> None:
        """The thread."""
        asyncio.run(self._watch())

    def finish(self) -> None:
        """Stop looking."""
        self._finish.set()
        self.join(30)

    def source_ends(self) -> Offsets:
        """Where the source topic ends by now."""
        return {tp: end for tp, end in self.ends.items() if tp.topic == self._source}

    def has_passed(self, ends: Offsets) -> bool:
        """Whether the group has settled everything before these offsets."""
        return bool(ends) and all(self.committed.get(tp, 0) >= end for tp, end in ends.items())

    def has_caught_up(self) -> bool:
        """Whether it has settled everything there is, lanes included."""
        return bool(self.ends) and all(self.committed.get(tp, 0) >= end for tp, end in self.ends.items() if end)

    async def _watch(self) -> None:
        while not self._finish.is_set():
            reader = open_transport(self._config).reader()
            try:
                await reader.start()
                while not self._finish.is_set():
                    committed = await reader.group_offsets(self._group, self._topics)
                    bounds = await reader.offsets(self._topics)
                    self._note(committed, {tp: after for tp, (_, after) in bounds.items()})
                    await asyncio.sleep(LOOK_EVERY_S)
            except BridgeError:
                await asyncio.sleep(LOOK_EVERY_S)
            finally:
                await reader.stop()

    def _note(self, committed: dict[TopicPartition, int | None], ends: Offsets) -> None:
        known = {tp: offset for tp, offset in committed.items() if offset is not None}
        for tp, offset in known.items():
            if offset < self.committed.get(tp, 0):
                self.moved_back.append(f"{tp.topic}/{tp.partition}: from {self.committed[tp]} to {offset}")
        self.ends, self.committed = ends, known
        self.looks += 1
