"""Kafka's range assignor as a pure function: equal partition numbers of co-partitioned topics go to one member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from broker_bridge.message import TopicPartition


def assign_ranges(
    subscriptions: Mapping[str, Sequence[str]], partition_counts: Mapping[str, int]
) -> dict[str, frozenset[TopicPartition]]:
    """Each member's partitions. ``subscriptions`` maps member id to topics.

    Per topic the members that want it, in order of their ids, get consecutive ranges; the first ones get one more where
    it does not divide. Source: ``org.apache.kafka.clients.consumer.RangeAssignor``.
    """
    assigned: dict[str, set[TopicPartition]] = {member: set() for member in subscriptions}
    for topic in sorted({topic for topics in subscriptions.values() for topic in topics}):
        members = sorted(member for member, topics in subscriptions.items() if topic in topics)
        each, extra = divmod(partition_counts.get(topic, 0), len(members))
        first = 0
        for index, member in enumerate(members):
            size = each + (1 if index < extra else 0)
            assigned[member].update(TopicPartition(topic, number) for number in range(first, first + size))
            first += size
    return {member: frozenset(partitions) for member, partitions in assigned.items()}
