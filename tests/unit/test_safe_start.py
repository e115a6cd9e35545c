"""What must be so before routes start (I26): topics that may lose what they acknowledged are refused unless allowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from broker_bridge.config import BridgeConfig, config_from
from broker_bridge.errors import TopicMissingError, TransportError, UnsafeSettingsError
from broker_bridge.transport.memory import MemoryAdmin, MemoryLog
from broker_bridge.worker.safe_start import prepare_start, topics_of
from broker_bridge.worker.topics import lane_specs, safe

ROUTE = {
    "name": "payments",
    "topic": "orders.placed",
    "target": {"kind": "topic", "topic": "audit"},
    "retry": {"lanes": ["2s"]},
}
LANES = [f"payments.orders.placed.{lane}" for lane in ("retry-2s", "redrive", "dlq")]


class Careless(MemoryAdmin):
    """A cluster whose topics are all unsafe."""

    asked: Sequence[str] = ()

    async def unsafe_settings(self, topics: Sequence[str]) -> list[str]:
        self.asked = topics
        return [f"{topic}: min.insync.replicas is 1 with 3 replicas" for topic in topics]


def config(**kafka: Any) -> BridgeConfig:
    return config_from({"kafka": kafka, "route": [ROUTE]})


def log_with(*topics: str) -> MemoryLog:
    log = MemoryLog()
    for topic in topics:
        log.create_topic(topic, 4)
    return log


async def test_every_topic_of_a_route_is_looked_at_and_an_unsafe_one_is_refused_by_name() -> None:
    admin = Careless(log_with("orders.placed", "audit"))
    chosen = config()
    with pytest.raises(UnsafeSettingsError) as caught:
        await prepare_start(admin, chosen, chosen.routes, replication=1)
    assert sorted(admin.asked) == sorted(["orders.placed", "audit", *LANES])
    for topic in admin.asked:
        assert f"{topic}: min.insync.replicas is 1" in caught.value.detail
    assert "allow_unsafe_topics = true" in caught.value.remedy


async def test_an_unsafe_topic_is_allowed_by_name_and_told_of() -> None:
    admin = Careless(log_with("orders.placed", "audit"))
    chosen = config(allow_unsafe_topics=True)
    with capture_logs() as lines:
        await prepare_start(admin, chosen, chosen.routes, replication=1)
    told = [line["reason"] for line in lines if line["event"] == "config_warning"]
    assert len(told) == len(admin.asked)
    assert {line["log_level"] for line in lines} == {"warning"}


async def test_what_the_configuration_warns_of_is_logged_and_safe_topics_start() -> None:
    short = {**ROUTE, "claims": {"ttl": "1h"}}
    chosen = config_from({"route": [short]})
    admin = MemoryAdmin(log_with("orders.placed", "audit"))
    with capture_logs() as lines:
        await prepare_start(admin, chosen, chosen.routes, replication=1)
    (line,) = lines
    assert line["event"] == "config_warning"
    assert "claims.ttl" in line["reason"]
    assert None not in (await admin.describe(topics_of(chosen.routes))).values(), "the lanes are there"


class Discreet(MemoryAdmin):
    """A cluster that does not show its settings to this user."""

    async def unsafe_settings(self, topics: Sequence[str]) -> list[str]:
        raise TransportError("Kafka refused access")


async def test_what_cannot_be_found_out_is_not_taken_for_safe() -> None:
    admin = Discreet(log_with("orders.placed", "audit"))
    with pytest.raises(TransportError):
        await prepare_start(admin, config(), config().routes, replication=1)
    with capture_logs() as lines:
        await prepare_start(admin, config(allow_unsafe_topics=True), config().routes, replication=1)
    (line,) = lines
    assert "not known" in line["reason"]


async def test_a_missing_source_is_told_before_anything_else() -> None:
    with pytest.raises(TopicMissingError):
        await prepare_start(Careless(MemoryLog()), config(), config().routes, replication=1)


def test_lanes_of_three_copies_are_made_safe() -> None:
    (route,) = config().routes
    assert {spec.name for spec in lane_specs(route, partitions=4, replication=3)} == set(LANES)
    for spec in lane_specs(route, partitions=4, replication=3):
        assert spec.settings["min.insync.replicas"] == "2"
        assert spec.settings["unclean.leader.election.enable"] == "false"
    for spec in lane_specs(route, partitions=4, replication=1):
        assert not spec.settings.keys() & safe(3).keys(), "one copy cannot be two"
