"""Worker processes on a real Kafka and a real Redis: the main path, and what happens when things end in the middle."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from worker_process import Shop, eventually, get_json

from broker_bridge.stack import LocalStack


@pytest.fixture
def new_shop(tmp_path: Path, kafka_bootstrap: str, redis_url: str, unique: str) -> Iterator[Callable[..., Shop]]:
    """Makes a shop with topics; its processes end with the test."""
    made: list[Shop] = []

    def make(**options: Any) -> Shop:
        shop = Shop(tmp_path, kafka_bootstrap, redis_url, unique, **options)
        made.append(shop)
        shop.make_topics()
        return shop

    yield make
    for shop in made:
        shop.close()


def wanted(count: int, first: int = 0) -> set[str]:
    return {f"o-{number:05d}" for number in range(first, first + count)}


def in_order_per_customer(effects: list[dict[str, Any]]) -> bool:
    """First effects of each customer follow the order of the log."""
    last: dict[str, int] = {}
    seen: set[str] = set()
    for effect in effects:
        if effect["id"] in seen:
            continue
        seen.add(effect["id"])
        if effect["offset"] < last.get(effect["key"], -1):
            return False
        last[effect["key"]] = effect["offset"]
    return True


def test_every_order_once_in_order_and_a_clean_end(new_shop: Callable[..., Shop]) -> None:
    shop = new_shop()
    worker = shop.start_worker(health="127.0.0.1:0")
    shop.place(1_000)
    shop.place(50)  # the same ids again
    eventually(lambda: len(shop.ids()) == 1_000)
    status, ready = get_json(shop.health_url(worker) + "/health/ready")
    assert (status, ready["checks"][shop.name]) == (200, "delivering")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    effects = shop.effects()
    assert len(effects) == 1_000
    assert shop.ids() == wanted(1_000)
    assert in_order_per_customer(effects)
    again = shop.start_worker()
    shop.place(10, first=1_000)
    eventually(lambda: len(shop.ids()) == 1_010)
    again.send_signal(signal.SIGTERM)
    assert again.wait(30) == 0
    assert len(shop.effects()) == 1_010, "what was committed is not handled again"


def test_a_worker_ends_without_a_handler_that_ignores_its_cancellation(new_shop: Callable[..., Shop]) -> None:
    shop = new_shop()
    worker = shop.start_worker()
    (position,) = shop.place(1, note="never-ends")
    eventually(lambda: len(shop.effects()) == 1)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 6
    stuck = [line["origin"] for line in shop.log_of(worker) if line["event"] == "handler_stuck"]
    assert stuck == [str(position)]


def test_row_1_to_4_a_killed_worker_loses_nothing_and_repeats_only_what_it_held(new_shop: Callable[..., Shop]) -> None:
    shop = new_shop()
    first = shop.start_worker(handler_s=0.02)
    shop.place(600, customers=40)
    eventually(lambda: len(shop.effects()) > 100)
    first.send_signal(signal.SIGKILL)
    first.wait(10)
    shop.start_worker()
    eventually(lambda: len(shop.ids()) == 600)
    effects = shop.effects()
    repeated = [effect for effect in effects if effect["crashes"] > 0]
    ids = [effect["id"] for effect in effects]
    assert len(ids) - len(set(ids)) <= 8, "no more than the handlers that ran when it died"
    assert {found for found in ids if ids.count(found) > 1} <= {effect["id"] for effect in repeated}
    assert in_order_per_customer(effects)


def test_row_8_a_second_worker_takes_its_share_and_gives_it_back(new_shop: Callable[..., Shop]) -> None:
    shop = new_shop()
    first = shop.start_worker(handler_s=0.01)
    shop.place(400, customers=40)
    eventually(lambda: len(shop.effects()) > 50)
    second = shop.start_worker(handler_s=0.01)
    shop.place(400, customers=40, first=400)
    eventually(lambda: any(line["event"] == "partitions_assigned" for line in shop.log_of(second)))
    eventually(lambda: len(shop.effects()) > 500)
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0
    eventually(lambda: len(shop.ids()) == 800)
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == 0
    effects = shop.effects()
    assert len(effects) == 800, "a clean hand-over repeats nothing"
    assert in_order_per_customer(effects)


def test_row_10_a_frozen_worker_that_wakes_up_cannot_commit_or_complete(new_shop: Callable[..., Shop]) -> None:
    shop = new_shop()
    frozen = shop.start_worker(handler_s=0.02)
    shop.place(600, customers=40)
    eventually(lambda: len(shop.effects()) > 50)
    frozen.send_signal(signal.SIGSTOP)
    shop.start_worker()
    eventually(lambda: len(shop.ids()) >= 590)
    frozen.send_signal(signal.SIGCONT)
    eventually(lambda: len(shop.ids()) == 600)
    shop.place(100, customers=40, first=600)
    eventually(lambda: len(shop.ids()) == 700)
    ids = [effect["id"] for effect in shop.effects()]
    assert len(ids) - len(set(ids)) <= 8


def test_rows_33_and_35_redis_restarted_in_mid_stream_repeats_nothing(
    new_shop: Callable[..., Shop], stack: LocalStack
) -> None:
    shop = new_shop()
    worker = shop.start_worker(handler_s=0.005)
    shop.place(800, customers=40)
    eventually(lambda: len(shop.effects()) > 100)
    stack.redis.stop()
    stack.redis.start()
    eventually(lambda: len(shop.ids()) == 800)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert len(shop.effects()) == 800
    assert in_order_per_customer(shop.effects())


def test_row_21_brokers_down_in_mid_stream_lose_nothing(new_shop: Callable[..., Shop], stack: LocalStack) -> None:
    shop = new_shop()
    shop.start_worker(handler_s=0.005)
    shop.place(800, customers=40)
    eventually(lambda: len(shop.effects()) > 100)
    stack.kafka.brokers[0].restart()
    eventually(lambda: len(shop.ids()) == 800)
    assert in_order_per_customer(shop.effects())


def test_dead_letters_replay_and_audit_close_the_books(new_shop: Callable[..., Shop]) -> None:
    shop = new_shop()
    worker = shop.start_worker()
    shop.place(100)
    shop.place(5, first=100, note="card-declined")
    eventually(lambda: len(shop.ids()) == 100)
    eventually(lambda: '"waiting": 5' in shop.command("dlq", "groups", "--json").stdout)
    done = shop.command("audit", "--json")
    assert '"balanced": true' in done.stdout
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    fixed = shop.folder / "effects.py"
    fixed.write_text(fixed.read_text().replace('"card-declined"', '"never"'))
    shop.start_worker()
    shop.command("replay", "plan", "--why", "cards accepted", "--out", "plan.jsonl")
    shop.command("replay", "run", "plan.jsonl", "--execute", "--yes")
    eventually(lambda: len(shop.ids()) == 105)
    shop.command("replay", "status", "plan.jsonl", "--wait", "--timeout", "30s")
    assert '"balanced": true' in shop.command("audit", "--json").stdout
    assert all(effect["replay"] for effect in shop.effects() if effect["id"] >= "o-00100")
