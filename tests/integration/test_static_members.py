"""Static membership: a worker that is restarted in time has its partitions again, and the others notice nothing."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from worker_process import Shop, eventually

Worker = subprocess.Popen[bytes]


@pytest.fixture
def shop(tmp_path: Path, kafka_bootstrap: str, redis_url: str, unique: str) -> Iterator[Shop]:
    made = Shop(tmp_path, kafka_bootstrap, redis_url, unique)
    made.make_topics()
    yield made
    made.close()


def told(shop: Shop, worker: Worker, event: str) -> list[list[str]]:
    """The partitions that a worker told of gaining or giving up, each time."""
    return [line["partitions"] for line in shop.log_of(worker) if line["event"] == event]


def has_its_share(shop: Shop, worker: Worker) -> bool:
    """Two of the four source partitions, and those of the lanes with the same numbers."""
    gained = told(shop, worker, "partitions_assigned")
    return bool(gained) and len([name for name in gained[-1] if name.startswith(shop.topic)]) == 2


def restarted(shop: Shop, *, member: str | None) -> tuple[int, set[str], set[str]]:
    """Restart the second of two workers in mid-stream. How often the first gave partitions up meanwhile, and what the
    second had before and has after."""
    stays = shop.start_worker(handler_s=0.005, member=member and f"{member}-0")
    eventually(lambda: bool(told(shop, stays, "partitions_assigned")))
    second = shop.start_worker(handler_s=0.005, member=member and f"{member}-1")
    eventually(lambda: has_its_share(shop, stays) and has_its_share(shop, second))
    before = len(told(shop, stays, "partitions_revoked"))
    shop.place(300, customers=40)
    eventually(lambda: len(shop.ids()) > 50)
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0
    again = shop.start_worker(handler_s=0.005, member=member and f"{member}-1")
    eventually(lambda: has_its_share(shop, again))
    shop.place(100, customers=40, first=300)
    eventually(lambda: len(shop.ids()) == 400)
    assert len(shop.effects()) == 400, "a restart repeats nothing"
    shares = [set(told(shop, worker, "partitions_assigned")[-1]) for worker in (second, again)]
    return len(told(shop, stays, "partitions_revoked")) - before, *shares


def test_row_23_a_static_member_is_restarted_without_a_rebalance(shop: Shop) -> None:
    given_up, before, after = restarted(shop, member="worker")
    assert given_up == 0
    assert before == after


def test_without_a_name_the_others_do_notice(shop: Shop) -> None:
    """So the check above can fail."""
    given_up, _, _ = restarted(shop, member=None)
    assert given_up >= 1
