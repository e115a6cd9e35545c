"""``broker-bridge worker`` as installed: what it refuses, in which words, with which exit status."""

from __future__ import annotations

import signal
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from worker_process import Shop, eventually, get_json


@pytest.fixture
def shop(tmp_path: Path, kafka_bootstrap: str, redis_url: str, unique: str) -> Iterator[Shop]:
    made = Shop(tmp_path, kafka_bootstrap, redis_url, unique)
    yield made
    made.close()


def test_a_source_that_does_not_exist_is_named_with_the_remedy(shop: Shop) -> None:
    done = shop.command("worker", "run", expect=3)
    assert f"topic {shop.topic} does not exist" in done.stderr
    assert "worker topics --create" in done.stderr


def test_kafka_away_at_start_is_told_within_the_time_limit(shop: Shop) -> None:
    text = shop.config_path.read_text().replace(shop.kafka, "127.0.0.1:1")
    shop.config_path.write_text(text)
    done = shop.command("worker", "run", expect=4)
    assert "error[kafka_unavailable]" in done.stderr
    assert "127.0.0.1:1" in done.stderr


def test_redis_away_at_start_is_told(shop: Shop) -> None:
    shop.make_topics()
    shop.config_path.write_text(shop.config_path.read_text().replace(shop.redis, "redis://127.0.0.1:1/0"))
    done = shop.command("worker", "run", expect=4)
    assert "error[redis_unavailable]" in done.stderr


def test_a_route_that_does_not_exist(shop: Shop) -> None:
    done = shop.command("worker", "run", "--route", "nosuch", expect=2)
    assert "there is no route 'nosuch'" in done.stderr
    assert shop.name in done.stderr


def test_a_handler_that_does_not_exist(shop: Shop) -> None:
    shop.config_path.write_text(shop.config_path.read_text().replace("effects:apply", "effects:nothing"))
    shop.make_topics()
    done = shop.command("worker", "run", expect=2)
    assert "effects has no 'nothing'" in done.stderr


def test_a_lane_with_other_partitions_than_its_source_is_refused(shop: Shop) -> None:
    shop.make_topics(partitions=4)
    other = shop.config_path.read_text().replace(f'topic = "{shop.topic}"', f'topic = "{shop.topic}"\ngroup = "g2"')
    shop.config_path.write_text(other)
    shop.command("worker", "topics")
    text = shop.config_path.read_text().replace(shop.topic, f"{shop.topic}-wide")
    shop.config_path.write_text(text)
    shop.command("worker", "topics", "--create", "6")
    assert shop.command("worker", "topics").stdout.strip() == "nothing to create"


def test_a_taken_health_port_is_told(shop: Shop) -> None:
    shop.make_topics()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        worker = shop.start_worker(health=address)
        assert worker.wait(30) == 2
    log = (shop.folder / "worker-0.log").read_text()
    assert "error[port_taken]" in log
    assert address in log


def lags(url: str, shop: Shop) -> set[int | None]:
    """The lags that ``/routes`` shows."""
    return {found["lag"] for found in get_json(url + "/routes")[1][shop.name]["partitions"].values()}


def test_health_metrics_and_routes_are_served_and_sigint_drains(shop: Shop) -> None:
    shop.make_topics()
    worker = shop.start_worker(health="127.0.0.1:0")
    url = shop.health_url(worker)
    shop.place(20)
    eventually(lambda: len(shop.effects()) == 20)
    assert get_json(url + "/health/live")[0] == 200
    eventually(lambda: get_json(url + "/routes")[1][shop.name]["in_flight"] == 0)
    eventually(lambda: lags(url, shop) == {0}, within_s=15)
    with urllib.request.urlopen(url + "/metrics", timeout=5) as answer:
        rendered = answer.read().decode()
    assert rendered.count('broker_bridge_lag{partition="') == 12, "four partitions of the source and of two lanes"
    assert f'broker_bridge_retry_budget_left{{route="{shop.name}"}}' in rendered
    worker.send_signal(signal.SIGINT)
    assert worker.wait(30) == 0
    events = [line["event"] for line in shop.log_of(worker)]
    assert events.index("drain_started") < events.index("route_stopped") < events.index("worker_stopped")
