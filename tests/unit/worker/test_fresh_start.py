"""What a worker makes of a partition it has just been given: who is parked, and what there is to commit (nothing)."""

from __future__ import annotations

import asyncio
from typing import Any

from orders import GROUP, TOPIC, place, shop

from broker_bridge import Context, Message
from broker_bridge.core.disposition import SOURCE
from broker_bridge.message import TopicPartition
from broker_bridge.testing import InMemoryBridge, run_virtual
from broker_bridge.worker.partitions import Assignment
from broker_bridge.worker.rebuild import ParkedSetRebuild

LANE = f"{GROUP}.{TOPIC}.retry-1h"


class Reading:
    """A consumer that reads on from ``position``, in a group that is said to have committed ``said``."""

    def __init__(self, *, position: int, said: int) -> None:
        self._position, self._said = position, said

    async def positions(self, partitions: frozenset[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self._position)

    async def committed(self, partitions: frozenset[TopicPartition]) -> dict[TopicPartition, int | None]:
        return dict.fromkeys(partitions, self._said)


def test_the_parked_set_is_rebuilt_from_where_the_consumer_reads() -> None:
    """The group's word is older than the position: what lies between is never read again, and parked it would hold its
    key for ever."""

    async def handle(_: Message[dict[str, Any]], __: Context) -> None:
        raise ValueError("not yet")

    async def scenario() -> None:
        policies = {"retry": {"in_place": 1, "lanes": ["1h"]}}
        async with InMemoryBridge(shop(handle, **policies), partitions=1) as world:
            for number in range(3):
                await place(world, number, customer=f"c{number}")
                await asyncio.sleep(1)
            assert [record.key for record in world.records(LANE)] == [b"c0", b"c1", b"c2"]
            assert world.worker is not None
            pipeline = world.worker.routes[0].pipeline
            (state,) = Assignment({TOPIC: SOURCE, LANE: 0}).gain([TopicPartition(LANE, 0)])
            rebuild = ParkedSetRebuild(pipeline, world.transport, Reading(position=1, said=0))  # type: ignore[arg-type]
            running = asyncio.create_task(rebuild.run())
            rebuild.submit([state])
            while not state.ready:
                await asyncio.sleep(0.1)
            running.cancel()
            parked = [number for number in range(3) if state.parked.contains(b"c%d" % number, number)]
            assert parked == [1, 2]

    run_virtual(scenario())


def test_nothing_is_committed_before_something_is_settled() -> None:
    """I4. The last owner's commit arrives late, after this worker has begun to read below it::

    old owner                    commit 3 ─ ─ ─ ─ ─ ─ ─ ─ ─▶ group: 3
    new owner    reads from 0                                         commits 0? the group would go back
    """
    started = asyncio.Event()

    async def handle(_: Message[dict[str, Any]], __: Context) -> None:
        started.set()
        await asyncio.sleep(15)

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle), partitions=1) as world:
            await place(world, 1, 2, 3, 4)
            await started.wait()
            committed = world.log.committed.setdefault(GROUP, {})
            committed[TopicPartition(TOPIC, 0)] = 3
            await asyncio.sleep(10)
            assert committed[TopicPartition(TOPIC, 0)] == 3
            await world.settled()

    run_virtual(scenario())
