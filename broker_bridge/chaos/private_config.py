"""A user's configuration, led to the private stack: the same policies and targets, other servers and names."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from broker_bridge.config import BridgeConfig, HttpTarget, RouteConfig, TopicTarget
from broker_bridge.config.types import SecretUrl

RELIABLE_HERE = {"security_protocol": "PLAINTEXT", "sasl_mechanism": None, "username": None, "password": None,
                 "ca_file": None, "cert_file": None, "key_file": None, "allow_plaintext": True}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Privacy:
    """What is private about one experiment. ``suffix`` goes behind every topic and group, so that experiments on one
    stack do not meet; ``sink_url`` takes the place of an HTTP target's url; ``wait_replicas`` is ``[redis]``'s."""

    route: str
    bootstrap: str
    redis_url: str
    suffix: str
    sink_url: str | None = None
    wait_replicas: int | None = None

    def as_json(self) -> dict[str, Any]:
        """As it is handed to worker processes."""
        return asdict(self)


def private_config(config: BridgeConfig, privacy: Privacy) -> BridgeConfig:
    """The configuration of one experiment: one route, the private servers, no credentials, no health port."""
    route = config.route(privacy.route)
    assert route is not None, privacy.route
    kafka = config.kafka.model_copy(update={**RELIABLE_HERE, "bootstrap": privacy.bootstrap})
    redis: dict[str, Any] = {"url": SecretUrl(privacy.redis_url), "prefix": f"bb{privacy.suffix}"}
    if privacy.wait_replicas is not None:
        redis["wait_replicas"] = privacy.wait_replicas
    return config.model_copy(
        update={
            "kafka": kafka,
            "redis": config.redis.model_copy(update={**redis, "allow_plaintext": True}),
            "health": config.health.model_copy(update={"listen": None}),
            "routes": [_private_route(route, privacy)],
        }
    )


def _private_route(route: RouteConfig, privacy: Privacy) -> RouteConfig:
    changed: dict[str, Any] = {"topic": route.topic + privacy.suffix, "group": route.group + privacy.suffix}
    if route.output is not None:
        changed["output"] = route.output.model_copy(update={"topic": route.output.topic + privacy.suffix})
    if isinstance(route.target, TopicTarget):
        changed["target"] = route.target.model_copy(update={"topic": route.target.topic + privacy.suffix})
    elif isinstance(route.target, HttpTarget) and privacy.sink_url is not None:
        changed["target"] = route.target.model_copy(update={"url": privacy.sink_url, "allow_hosts": []})
    return route.model_copy(update=changed)
