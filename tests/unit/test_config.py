"""bridge.toml: what is read, from the file, the environment and Python; and what is warned of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from config_mistakes import ROUTE
from pydantic import SecretStr, ValidationError

from broker_bridge.config import (
    BridgeConfig,
    ClaimSection,
    HttpTarget,
    OutputSection,
    PythonTarget,
    RetrySection,
    RouteConfig,
    SecretUrl,
    TopicTarget,
    config_warnings,
    load_config,
)

DAY_MS = 86_400_000


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "bridge.toml"
    path.write_text(text, encoding="utf-8")
    return path


def loaded(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> BridgeConfig:
    return load_config(written(tmp_path, text), environ or {})


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    config = loaded(tmp_path, "")
    assert config.kafka.bootstrap == "127.0.0.1:9092"
    assert (config.kafka.session_timeout_ms, config.kafka.rebalance_timeout_ms) == (45_000, 60_000)
    assert config.redis.url.get_secret_value() == "redis://127.0.0.1:6379/0"
    assert config.bridge.schemas == tmp_path / "schemas"
    assert config.health.listen == "127.0.0.1:0"
    assert config.routes == []


def test_a_route_has_the_documented_defaults(tmp_path: Path) -> None:
    route = loaded(tmp_path, ROUTE).routes[0]
    assert (route.group, route.order, route.concurrency, route.poll_records) == ("payments", "key", 16, 500)
    assert (route.max_in_flight, route.max_in_flight_bytes, route.commit_interval_ms) == (2_000, 64 << 20, 500)
    assert isinstance(route.target, HttpTarget)
    assert (route.target.timeout_ms, route.target.max_response_bytes) == (10_000, 1 << 20)
    assert (route.retry.in_place, route.retry.base_ms, route.retry.max_ms) == (3, 100, 5_000)
    assert (route.retry.jitter, route.retry.lanes_ms) == (0.5, [])
    assert (route.claims.lease_ms, route.claims.ttl_ms, route.claims.crash_limit) == (30_000, 7 * DAY_MS, 3)
    assert (route.breaker.window, route.breaker.min_failures, route.breaker.min_keys) == (50, 5, 3)
    assert (route.breaker.open_ms, route.breaker.max_open_ms, route.breaker.probes) == (1_000, 30_000, 1)
    assert (route.dead_letter.message, route.dead_letter.on_dead, route.dead_letter.max_hops) == (False, "release", 5)
    assert route.shutdown.drain_ms == 20_000
    assert route.output is None
    assert route.contract is None
    assert config_warnings(loaded(tmp_path, ROUTE)) == []


def test_durations_sizes_targets_and_lanes_are_read(tmp_path: Path) -> None:
    text = """
[bridge]
service = "shop"
[health]
listen = "off"
[[route]]
name = "a"
topic = "orders.placed"
group = "payments"
max_in_flight_bytes = "8MiB"
target = { kind = "topic", topic = "copies", partitions = "same" }
retry = { lanes = ["2s", "10s", 60000], base = "50ms", max = "1.5s" }
claims = { lease = "5s", ttl = "7d" }
output = { topic = "results", subject = "shop.Done" }
"""
    config = loaded(tmp_path, text)
    route = config.routes[0]
    assert config.health.listen is None
    assert isinstance(route.target, TopicTarget)
    assert route.target_timeout_ms == 0
    assert route.retry.lanes_ms == [2_000, 10_000, 60_000]
    assert (route.retry.base_ms, route.retry.max_ms) == (50, 1_500)
    assert route.claims.lease_ms == 5_000
    assert route.max_in_flight_bytes == 8 << 20
    assert route.output is not None
    assert route.output.source == "shop"
    assert route.lane_names.all(route.retry.lanes_ms) == [
        "payments.orders.placed.retry-2s",
        "payments.orders.placed.retry-10s",
        "payments.orders.placed.retry-1m",
        "payments.orders.placed.redrive",
        "payments.orders.placed.dlq",
    ]


def test_the_producers_source_is_the_outputs_default(tmp_path: Path) -> None:
    text = ROUTE + '[route.output]\ntopic = "r"\nsubject = "s"\n[producer]\nsource = "/shop/payments"\n'
    output = loaded(tmp_path, text).routes[0].output
    assert output is not None
    assert output.source == "/shop/payments"


def test_models_are_made_in_python_by_attribute_names() -> None:
    route = RouteConfig(
        name="a",
        topic="t",
        target=PythonTarget(handler="shop.handlers:capture"),
        claims=ClaimSection(lease_ms=25_000),
        retry=RetrySection(lanes_ms=[1_000]),
        output=OutputSection(topic="r", subject="s"),
    )
    config = BridgeConfig(routes=[route])
    assert config.route("a") is not None
    assert config.route("b") is None
    assert config.routes[0].claims.lease_ms == 25_000
    assert config.routes[0].output is not None
    assert config.routes[0].output.source == "broker-bridge"
    with pytest.raises(ValidationError, match="frozen"):
        route.concurrency = 3


def test_the_environment_goes_over_the_file(tmp_path: Path) -> None:
    environ = {
        "BROKER_BRIDGE_KAFKA__BOOTSTRAP": "127.0.0.1:19092,localhost:19093",
        "BROKER_BRIDGE_KAFKA__SESSION_TIMEOUT": "12s",
        "BROKER_BRIDGE_KAFKA__DELIVERY_TIMEOUT": "2500",
        "BROKER_BRIDGE_REDIS__WAIT_REPLICAS": "2",
        "BROKER_BRIDGE_REDIS__ALLOW_EVICTION": "true",
        "BROKER_BRIDGE_BRIDGE__SCHEMAS": "contracts",
        "BROKER_BRIDGE_DEBUG": "1",
        "OTHER": "x",
    }
    config = loaded(tmp_path, '[kafka]\nbootstrap = "127.0.0.1:1"\n', environ)
    assert config.kafka.bootstrap == "127.0.0.1:19092,localhost:19093"
    assert (config.kafka.session_timeout_ms, config.kafka.delivery_timeout_ms) == (12_000, 2_500)
    assert (config.redis.wait_replicas, config.redis.allow_eviction) == (2, True)
    assert config.bridge.schemas == tmp_path / "contracts"


def test_secrets_do_not_show(tmp_path: Path) -> None:
    environ = {
        "BROKER_BRIDGE_KAFKA__PASSWORD": "canary-1",
        "BROKER_BRIDGE_REDIS__URL": "rediss://u:canary-2@h:1/0",
        "BROKER_BRIDGE_REGISTRY__TOKEN": "canary-4",
    }
    kafka = '[kafka]\nsecurity_protocol = "SASL_SSL"\nsasl_mechanism = "SCRAM-SHA-512"\nusername = "u"\n'
    route = ROUTE + 'headers = { Authorization = "Bearer canary-3" }\n'
    config = loaded(tmp_path, kafka + route, environ)
    assert "canary" not in repr(config) + str(config)
    assert config.registry.token == SecretStr("canary-4")
    assert str(config.redis.url) == "rediss://***@h:1/0"
    assert config.redis.url == SecretUrl("rediss://u:canary-2@h:1/0")


def test_what_will_surprise_someone_is_warned_of(tmp_path: Path) -> None:
    short = ROUTE + '[route.claims]\nttl = "1d"\n'
    assert config_warnings(loaded(tmp_path, short)) == [
        (
            "route[payments].claims.ttl: claims live 1d, but dead letters are kept 6d: a late replay may repeat an "
            "effect (W4, I19); lengthen claims.ttl or shorten lanes.retention"
        )
    ]
    shared = ROUTE + ROUTE.replace('"payments"\n', '"b"\ngroup = "payments"\n', 1).replace("orders.placed", "x")
    assert config_warnings(loaded(tmp_path, shared)) == [
        (
            "group 'payments' is used by routes of 2 topics: a rebalance of one pauses the others; give each "
            "route its own group"
        )
    ]
    assert config_warnings(loaded(tmp_path, "")) == ["no [[route]] is configured: a worker would have nothing to do"]


def test_every_documented_example_of_a_problem_fails_when_mended(tmp_path: Path) -> None:
    """The cases above are told for their own mistake only: the same file without it is read."""
    assert loaded(tmp_path, ROUTE).routes[0].name == "payments"
    mended: Any = loaded(tmp_path, ROUTE + 'timeout = "27s"\n[route.shutdown]\ndrain = "54s"\n')
    assert (mended.routes[0].target.timeout_ms, mended.routes[0].shutdown.drain_ms) == (27_000, 54_000)
