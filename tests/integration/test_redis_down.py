"""Redis stopped under worker processes that go on without it (window W5, rows 33 and 35), and started again."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from worker_process import Shop, eventually

from broker_bridge.stack import LocalStack


@pytest.fixture
def new_shop(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str, unique: str, stack: LocalStack
) -> Iterator[Callable[[str], Shop]]:
    """Makes a shop by policy; its processes end with the test, and Redis runs again."""
    made: list[Shop] = []

    def make(policy: str) -> Shop:
        shop = Shop(tmp_path, kafka_bootstrap, redis_url, unique)
        text = shop.config_path.read_text()
        shop.config_path.write_text(text.replace("[route.claims]\n", f'[route.claims]\non_redis_down = "{policy}"\n'))
        made.append(shop)
        shop.make_topics()
        return shop

    yield make
    for shop in made:
        shop.close()
    if not stack.redis.answers():
        stack.redis.start()


def told(shop: Shop, worker: Any, event: str) -> list[dict[str, Any]]:
    return [line for line in shop.log_of(worker) if line["event"] == event]


@pytest.mark.parametrize("policy", ["fallback", "fail_open"])
def test_the_route_goes_on_without_redis_and_is_known_at_home_afterwards(
    new_shop: Callable[[str], Shop], stack: LocalStack, policy: str
) -> None:
    shop = new_shop(policy)
    worker = shop.start_worker(handler_s=0.005)
    shop.place(400, customers=40)
    eventually(lambda: len(shop.effects()) > 100)
    stack.redis.stop()
    shop.place(200, customers=40, first=400)
    eventually(lambda: len(shop.ids()) == 600)
    assert told(shop, worker, "claims_unguarded")
    assert not told(shop, worker, "route_paused")
    stack.redis.start()
    eventually(lambda: bool(told(shop, worker, "claims_guarded")))
    (back,) = told(shop, worker, "claims_guarded")
    assert back["policy"] == policy
    assert back["granted"] >= 200
    assert (back["collided"], back["dropped"]) == (0, 0)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    second = shop.start_worker()
    shop.place(600, customers=40)  # every one of them again
    shop.place(1, first=600)
    eventually(lambda: len(shop.ids()) == 601)
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0
    effects = shop.effects()
    assert [name for name, times in Counter(effect["id"] for effect in effects).items() if times > 1] == []
    unguarded = [effect for effect in effects if effect["id"] >= "o-00400" and effect["id"] != "o-00600"]
    assert all(effect["attempt"] >= 2 for effect in unguarded), "each is announced as a possible repeat"
    assert all(effect["attempt"] == 1 for effect in effects[:100])


def test_a_worker_starts_without_redis_and_drops_duplicates_by_itself(
    new_shop: Callable[[str], Shop], stack: LocalStack
) -> None:
    shop = new_shop("fallback")
    stack.redis.stop()
    worker = shop.start_worker()
    shop.place(100)
    shop.place(100)
    eventually(lambda: len(shop.ids()) == 100)
    shop.place(1, first=100)
    eventually(lambda: len(shop.ids()) == 101)
    stack.redis.start()
    eventually(lambda: bool(told(shop, worker, "claims_guarded")))
    shop.place(101)
    shop.place(1, first=101)
    eventually(lambda: len(shop.ids()) == 102)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert len(shop.effects()) == 102
