"""Faults of the topics of a route: forbidden, removed, with too little room, or with more partitions than before."""

from __future__ import annotations

import asyncio

from broker_bridge.bootstrap import open_transport
from broker_bridge.chaos import kafka_wire
from broker_bridge.chaos.evidence import Evidence
from broker_bridge.chaos.faults.base import Fault
from broker_bridge.chaos.verdict import Verdict
from broker_bridge.chaos.world import World
from broker_bridge.core.dead_letter import read_dead_letter
from broker_bridge.worker.topics import LANE_RECORD_BYTES, ensure_lanes

VERBOSE = 6
SMALL_LETTER = 2_500
"""Bytes that hold a dead letter of the built-in workload, but not with an error message of two kilobytes."""


class _LaneRefuses(Fault):
    """Nobody may write to a topic of the group."""

    built_in_only = True

    def topic(self, world: World) -> str:
        """Which one."""
        raise NotImplementedError

    def begin(self, world: World) -> None:
        """Refuse, then send what needs it."""
        kafka_wire.forbid_writes(world.servers.brokers[0].port, self.topic(world))
        self._size = asyncio.run(_records_in(world, self.topic(world)))
        world.mix_in("poison", "stubborn", "poison", "stubborn")

    def end(self, world: World) -> None:
        """Take writes again."""
        world.facts["writes_let_through"] = asyncio.run(_records_in(world, self.topic(world))) - self._size
        kafka_wire.allow_writes(world.servers.brokers[0].port, self.topic(world))


class DeadLettersRefused(_LaneRefuses):
    """Nothing may be committed past a record that has no dead letter yet."""

    name = "dead-letters-refused"
    title = "writing to the dead-letter topic is forbidden"
    rows = (30,)

    def topic(self, world: World) -> str:
        """The dead letters."""
        return world.route.lane_names.dead_letter


class RetryLaneRefused(_LaneRefuses):
    """Nothing may be committed past a record that has no retry copy yet."""

    name = "retry-lane-refused"
    title = "writing to the retry lane is forbidden"
    rows = (32,)

    def topic(self, world: World) -> str:
        """The first lane."""
        return world.route.lane_names.retries(world.route.retry.lanes_ms)[0]


class DeadLettersMissing(Fault):
    """Removed while the workers run; made again by an operator."""

    name = "dead-letters-missing"
    title = "the dead-letter topic is removed, and made again later"
    rows = (30,)
    built_in_only = True
    poison_share = 0.0

    def begin(self, world: World) -> None:
        """Remove, then send what needs it. Nothing was in it: the workload has no poison of its own."""
        kafka_wire.delete_topic(world.servers.brokers[0].port, world.route.lane_names.dead_letter)
        world.mix_in("poison", "poison", "poison")

    def end(self, world: World) -> None:
        """Make it again."""
        asyncio.run(_make_lanes(world))


class DeadLetterTooLarge(Fault):
    """What is told of the failure gives way; the message itself is kept whole."""

    name = "dead-letter-too-large"
    title = "dead letters with a long error message are larger than their topic takes"
    rows = (31,)
    built_in_only = True
    dead_kinds = Fault.dead_kinds | {"verbose"}

    def begin(self, world: World) -> None:
        """Room for a dead letter, not for what it would tell."""
        kafka_wire.set_largest_record(world.servers.brokers[0].port, world.route.lane_names.dead_letter, SMALL_LETTER)
        world.mix_in(*["verbose"] * VERBOSE)

    def end(self, world: World) -> None:
        """Count those that had to be cut, and make room."""
        world.facts["letters_without_message"] = asyncio.run(_cut_letters(world))
        topic = world.route.lane_names.dead_letter
        kafka_wire.set_largest_record(world.servers.brokers[0].port, topic, LANE_RECORD_BYTES)

    def review(self, world: World, evidence: Evidence, verdict: Verdict) -> None:
        """It has to have been felt: a message of that length is in no letter of the time."""
        if not world.facts["letters_without_message"]:
            verdict.object("the fault was not felt", "no dead letter had to be cut")


async def _cut_letters(world: World) -> int:
    reader = open_transport(world.config).reader()
    await reader.start()
    try:
        bounds = await reader.offsets([world.route.lane_names.dead_letter])
        start, end = ({tp: both[which] for tp, both in bounds.items()} for which in (0, 1))
        letters = [read_dead_letter(one) async for batch in reader.read(start, end) for one in batch]
    finally:
        await reader.stop()
    return sum(letter.failure.target_code == "verbose" and not letter.failure.message for letter in letters)


class PartitionsAdded(Fault):
    """Keys move to other partitions: what came before and what comes after is in order, each by itself."""

    name = "partitions-added"
    title = "twice as many partitions for the lanes and then for the source, while it is read and written"
    rows = (18,)

    def begin(self, world: World) -> None:
        """Lanes first. Then restart the broker and the workers: clients look anew at once, which otherwise takes them
        up to five minutes."""
        port, self._before = world.servers.brokers[0].port, len(world.lag.source_ends())
        lanes = world.route.lane_names.all(world.route.retry.lanes_ms)
        for topic in (*lanes, world.route.topic):
            kafka_wire.add_partitions(port, topic, 2 * self._before)
        world.run_for(1.0)
        world.servers.brokers[0].restart()
        for worker in world.pool.workers:
            world.pool.end(worker)
            worker.start()
            world.run_for(2.0)

    def end(self, world: World) -> None:
        """They stay."""

    def review(self, world: World, evidence: Evidence, verdict: Verdict) -> None:
        """It has to have been felt: the new partitions were written to, and read."""
        called = {delivery.origin.partition for delivery in evidence.deliveries}
        world.facts["partitions_read"] = len(called)
        if len(called) <= self._before:
            verdict.object("the fault was not felt", "nothing came from a new partition")


async def _records_in(world: World, topic: str) -> int:
    reader = open_transport(world.config).reader()
    await reader.start()
    try:
        return sum(after - first for first, after in (await reader.offsets([topic])).values())
    finally:
        await reader.stop()


async def _make_lanes(world: World) -> None:
    admin = open_transport(world.config).admin()
    await admin.start()
    try:
        await ensure_lanes(admin, world.route, replication=1)
    finally:
        await admin.stop()


TOPIC_FAULTS: tuple[type[Fault], ...] = (
    DeadLettersRefused,
    RetryLaneRefused,
    DeadLettersMissing,
    DeadLetterTooLarge,
    PartitionsAdded,
)
