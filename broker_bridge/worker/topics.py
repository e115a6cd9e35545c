"""The topics of a route: what must exist before a worker starts, and what the worker may create because it is the
group's own."""

from __future__ import annotations

from collections.abc import Sequence

from broker_bridge.config.route import RouteConfig, TopicTarget
from broker_bridge.errors import ConfigError, TopicMissingError
from broker_bridge.transport.base import TopicAdmin, TopicSpec

_FOR_EVER = "-1"
LANE_RECORD_BYTES = 2_097_152
"""A copy in a lane carries a few headers more than its record, so lanes take larger records than topics by default
do."""


async def ensure_lanes(admin: TopicAdmin, route: RouteConfig, *, replication: int) -> list[str]:
    """Create the lanes that do not exist, with the source's partition count, and return their names.

    Raises ``TopicMissingError`` where the source or the output does not exist, ``ConfigError`` where a lane has another
    number of partitions than the source: the worker's ordering rests on partition *i* of all of them belonging
    together.
    """
    partitions = (await required_topics(admin, route))[route.topic]
    created = await admin.ensure(lane_specs(route, partitions=partitions, replication=replication))
    counts = await admin.describe(route.lane_names.all(route.retry.lanes_ms))
    for name, count in counts.items():
        if count != partitions:
            raise ConfigError(
                f"lane has {count} partitions, its source {route.topic} has {partitions}",
                where=name,
                remedy=f"drain the lane, then give it {partitions} partitions",
            )
    return created


async def ensure_topics(
    admin: TopicAdmin, routes: Sequence[RouteConfig], *, partitions: int | None, replication: int
) -> list[str]:
    """Create what ``routes`` need and do not have, and return the names: with ``partitions`` the topics that users own,
    then the lanes. Raises as ``ensure_lanes`` does."""
    created: list[str] = []
    if partitions is not None:
        names = sorted({name for route in routes for name in owned_by_users(route)})
        missing = [name for name, count in (await admin.describe(names)).items() if count is None]
        created += await admin.ensure([TopicSpec(name, partitions, replication, safe(replication)) for name in missing])
    for route in routes:
        created += await ensure_lanes(admin, route, replication=replication)
    return created


async def required_topics(admin: TopicAdmin, route: RouteConfig) -> dict[str, int]:
    """Partition counts of the topics that users own: source, output, target topic. Raises ``TopicMissingError``
    naming the first missing."""
    names = owned_by_users(route)
    counts = await admin.describe(names)
    found: dict[str, int] = {}
    for name in names:
        count = counts[name]
        if count is None:
            raise TopicMissingError(f"topic {name} does not exist", where=f"route {route.name}")
        found[name] = count
    return found


def lane_specs(route: RouteConfig, *, partitions: int, replication: int) -> list[TopicSpec]:
    """The lanes to exist. Dead letters keep their record's own timestamp, so time-based retention would remove old ones
    at once: they are kept until discarded."""
    names = route.lane_names
    kept = {
        "retention.ms": str(route.lanes.retention_ms),
        "max.message.bytes": str(LANE_RECORD_BYTES),
        **safe(replication),
    }
    specs = [TopicSpec(name, partitions, replication, kept) for name in names.read(route.retry.lanes_ms)]
    return [*specs, TopicSpec(names.dead_letter, partitions, replication, {**kept, "retention.ms": _FOR_EVER})]


def safe(replication: int) -> dict[str, str]:
    """Settings by which an acknowledged record is on two brokers at least, where there are three copies (I26)."""
    return {"min.insync.replicas": "2", "unclean.leader.election.enable": "false"} if replication >= 3 else {}


def owned_by_users(route: RouteConfig) -> list[str]:
    """The topics of a route that are not the group's own: source, output, target topic."""
    names = [route.topic]
    if route.output is not None:
        names.append(route.output.topic)
    if isinstance(route.target, TopicTarget):
        names.append(route.target.topic)
    return names
