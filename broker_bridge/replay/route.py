"""What the replay tooling needs to know of a route."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from broker_bridge.config.route import RouteConfig
from broker_bridge.message import Header

Decode = Callable[[bytes, Sequence[Header]], object]
"""Decodes a record's value, its headers at hand, under the route's contract; raises ``ContractError``."""


@dataclass(slots=True, frozen=True)
class ReplayRoute:
    """Topics and limits of one route. ``retry_topics`` in the order of their delays; ``claim_ttl_ms`` is how long a
    settled claim is remembered. ``reads_foreign`` says that ``dead_letter_topic`` is not the group's own."""

    name: str
    group: str
    topic: str
    dead_letter_topic: str
    redrive_topic: str
    retry_topics: tuple[str, ...]
    output_topic: str | None
    max_hops: int
    claim_ttl_ms: int
    keeps_order: bool
    reads_foreign: bool = False

    @classmethod
    def of(cls, route: RouteConfig) -> ReplayRoute:
        """From a route's configuration."""
        lanes = route.lane_names
        return cls(
            name=route.name,
            group=route.group,
            topic=route.topic,
            dead_letter_topic=lanes.dead_letter,
            redrive_topic=lanes.redrive,
            retry_topics=tuple(lanes.retries(route.retry.lanes_ms)),
            output_topic=route.output.topic if route.output else None,
            max_hops=route.dead_letter.max_hops,
            claim_ttl_ms=route.claims.ttl_ms,
            keeps_order=route.order != "none",
        )

    def reading(self, topic: str | None) -> ReplayRoute:
        """This route with the dead letters of another topic; None and its own topic change nothing."""
        if topic is None or topic == self.dead_letter_topic:
            return self
        return replace(self, dead_letter_topic=topic, reads_foreign=True)
