"""What a wish for a stack becomes: ports, ids, sizes, and which wishes make no sense."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from broker_bridge.errors import PortTakenError, StackError, UsageError
from broker_bridge.stack import StackSpec
from broker_bridge.stack.plan import check_fixed_ports, plan_layout
from broker_bridge.stack.ports import free_port
from broker_bridge.stack.state import StackState


def all_ports(state: StackState) -> list[int]:
    return [port for node in state.kafka for port in (node.port, node.controller_port)] + [state.redis.port]


@pytest.mark.parametrize(
    ("wish", "named"),
    [
        ({"brokers": 2}, "1 or 3"),
        ({"brokers": 0}, "1 or 3"),
        ({"kafka_heap_mb": 64}, "64 MB"),
        ({"kafka_port": 0}, "kafka_port"),
        ({"kafka_port": 65_535, "brokers": 3}, "kafka_port"),
        ({"redis_port": 70_000}, "redis_port"),
        ({"kafka_port": 20_000, "brokers": 3, "redis_port": 20_002}, "share port 20002"),
        ({"data_dir": Path("a,b")}, "commas"),
        ({"registry_port": 20_000}, "no registry"),
        ({"registry": True, "registry_port": 0}, "registry_port"),
        ({"registry": True, "registry_port": 20_000, "redis_port": 20_000}, "Redis and Registry cannot share"),
        ({"registry": True, "registry_port": 20_000, "kafka_port": 20_000}, "Kafka and Registry cannot share"),
        ({"registry": True, "data_dir": Path("a;b")}, "splits folder names at ;"),
    ],
)
def test_wishes_that_make_no_sense(wish: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        StackSpec(**wish)


@pytest.mark.parametrize("brokers", [1, 3])
def test_free_ports_are_all_different(brokers: int) -> None:
    layout = plan_layout(StackSpec(brokers=brokers), None)
    assert [node.node_id for node in layout.kafka] == list(range(1, brokers + 1))
    assert len(set(all_ports(layout))) == 2 * brokers + 1


def test_fixed_ports_are_kept_to() -> None:
    layout = plan_layout(StackSpec(brokers=3, kafka_port=20_100, redis_port=20_110), None)
    assert [node.port for node in layout.kafka] == [20_100, 20_101, 20_102]
    assert layout.redis.port == 20_110
    assert not {20_100, 20_101, 20_102, 20_110} & {node.controller_port for node in layout.kafka}


def test_a_registry_is_planned_only_where_it_is_wanted() -> None:
    assert plan_layout(StackSpec(), None).registry is None
    before = plan_layout(StackSpec(registry=True), None)
    assert before.registry is not None
    assert before.registry.port not in all_ports(before)
    after = plan_layout(StackSpec(registry=True), before)
    assert after.registry == before.registry
    fixed = plan_layout(StackSpec(registry=True, registry_port=20_120), before)
    assert fixed.registry is not None
    assert fixed.registry.port == 20_120


def test_a_second_start_keeps_cluster_and_ports() -> None:
    before = plan_layout(StackSpec(), None)
    after = plan_layout(StackSpec(), before)
    assert after.cluster_id == before.cluster_id
    assert all_ports(after) == all_ports(before)
    assert after.run_id != before.run_id


def test_a_port_that_was_taken_since_is_replaced() -> None:
    before = plan_layout(StackSpec(), None)
    with socket.create_server(("127.0.0.1", before.redis.port)):
        after = plan_layout(StackSpec(), before)
    assert after.redis.port != before.redis.port
    assert after.kafka == before.kafka


def test_data_of_another_size_of_cluster_is_refused() -> None:
    before = plan_layout(StackSpec(brokers=3), None)
    with pytest.raises(StackError, match="3 Kafka node") as caught:
        plan_layout(StackSpec(), before)
    assert "--brokers 3" in caught.value.remedy


@pytest.mark.parametrize("which", ["kafka_port", "redis_port"])
def test_a_fixed_port_that_is_taken_is_named(which: str) -> None:
    port = free_port()
    spec = StackSpec(**{which: port})  # type: ignore[arg-type]
    check_fixed_ports(spec)
    with socket.create_server(("127.0.0.1", port)), pytest.raises(PortTakenError) as caught:
        check_fixed_ports(spec)
    assert caught.value.where == f"127.0.0.1:{port}"
    assert str(port) in caught.value.remedy
