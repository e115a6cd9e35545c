"""Before routes start: tell what will surprise, make the lanes, refuse topics that may lose what they acknowledged."""

from __future__ import annotations

from collections.abc import Sequence

from broker_bridge.config import BridgeConfig, RouteConfig, config_warnings
from broker_bridge.errors import TransportError, UnsafeSettingsError
from broker_bridge.observability import names
from broker_bridge.observability.logging import get_logger
from broker_bridge.transport.base import TopicAdmin
from broker_bridge.worker.topics import ensure_lanes, owned_by_users

log = get_logger(__name__)


async def prepare_start(
    admin: TopicAdmin, config: BridgeConfig, routes: Sequence[RouteConfig], *, replication: int
) -> None:
    """Everything that must be so before ``routes`` of ``config`` start (invariant I26).

    Raises ``UnsafeSettingsError`` where a topic of a route may lose records it has acknowledged, unless ``[kafka]
    allow_unsafe_topics`` says that it may; ``TransportError`` where that cannot be found out, unless so; and what
    ``ensure_lanes`` raises.
    """
    for warning in config_warnings(config):
        log.warning(names.CONFIG_WARNING, reason=warning)
    for route in routes:
        await ensure_lanes(admin, route, replication=replication)
    allowed = config.kafka.allow_unsafe_topics
    try:
        unsafe = await admin.unsafe_settings(topics_of(routes))
    except TransportError as error:
        if not allowed:
            raise
        unsafe = [f"whether the topics are safe is not known: {error}"]
    if unsafe and not allowed:
        raise UnsafeSettingsError(
            "; ".join(unsafe),
            where=f"Kafka at {config.kafka.bootstrap}",
            remedy="change the topics' settings, or allow it by name: [kafka] allow_unsafe_topics = true",
        )
    for found in unsafe:
        log.warning(names.CONFIG_WARNING, reason=found)


def topics_of(routes: Sequence[RouteConfig]) -> list[str]:
    """Every topic that the routes read or write, each once."""
    found = [
        topic for route in routes for topic in (*owned_by_users(route), *route.lane_names.all(route.retry.lanes_ms))
    ]
    return list(dict.fromkeys(found))
