"""``worker run --processes``: real processes of one command on a real Kafka and Redis."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from worker_process import Shop, eventually, get_json

from broker_bridge.stack.processes import ProcessIdentity, identify

Worker = subprocess.Popen[bytes]


@pytest.fixture
def shop(tmp_path: Path, kafka_bootstrap: str, redis_url: str, unique: str) -> Iterator[Shop]:
    made = Shop(tmp_path, kafka_bootstrap, redis_url, unique)
    made.make_topics()
    yield made
    made.close()
    end_what_runs_in(tmp_path)


def end_what_runs_in(folder: Path) -> None:
    """Processes that outlived their parent, though they should not have."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink() == folder and (found := identify(int(process.name))) is not None:
                found.send(signal.SIGKILL)


def lives(shop: Shop, worker: Worker, number: int) -> list[ProcessIdentity | None]:
    """The processes that the parent started under a number, in their order."""
    lines = [line for line in shop.log_of(worker) if line["event"] == "process_started"]
    return [identify(line["pid"]) for line in lines if line["process"] == number]


def running(shop: Shop, worker: Worker) -> list[ProcessIdentity]:
    """The present processes, once both are there."""
    found: list[ProcessIdentity | None] = []

    def both() -> bool:
        found[:] = [lives(shop, worker, number)[-1] if lives(shop, worker, number) else None for number in (1, 2)]
        return all(found)

    eventually(both)
    return [identity for identity in found if identity is not None]


def share(shop: Shop, worker: Worker, number: int) -> int:
    """How many source partitions a process was given last."""
    told = [
        line["partitions"]
        for line in shop.log_of(worker)
        if line["event"] == "partitions_assigned" and line["process"] == number
    ]
    return len([name for name in told[-1] if name.startswith(shop.topic)]) if told else 0


def both_at_work(shop: Shop, worker: Worker) -> bool:
    return share(shop, worker, 1) == share(shop, worker, 2) == 2


def test_two_processes_share_the_work_and_one_that_is_killed_is_replaced(shop: Shop) -> None:
    worker = shop.start_worker(handler_s=0.02, health="127.0.0.1:0", processes=2)
    url = shop.health_url(worker)
    eventually(lambda: both_at_work(shop, worker))
    eventually(lambda: get_json(url + "/health/ready")[0] == 200)
    shop.place(400, customers=40)
    eventually(lambda: len(shop.ids()) > 50)
    stays, dies = running(shop, worker)
    assert dies.send(signal.SIGKILL)
    eventually(lambda: len(lives(shop, worker, 2)) == 2)
    eventually(lambda: len(shop.ids()) == 400)
    eventually(lambda: both_at_work(shop, worker) and get_json(url + "/health/ready")[0] == 200)
    assert '"balanced": true' in shop.command("audit", "--json").stdout
    with urllib.request.urlopen(url + "/metrics", timeout=5) as answer:
        page = answer.read().decode()
    for number in (1, 2):
        assert f'broker_bridge_records_polled_total{{process="{number}",route="{shop.name}"}}' in page
    assert 'broker_bridge_process_restarts_total{process="2"} 1.0' in page
    assert set(get_json(url + "/routes")[1]) == {"1", "2"}
    assert get_json(url + "/health/live")[0] == 200
    now = running(shop, worker)
    assert now[0] == stays != now[1]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert not any(process.is_alive for process in now)
    stopped = [line["process"] for line in shop.log_of(worker) if line["event"] == "worker_stopped"]
    assert sorted(stopped) == [1, 2]


def test_processes_drain_and_end_when_their_parent_is_killed(shop: Shop) -> None:
    worker = shop.start_worker(member="till", processes=2)
    eventually(lambda: both_at_work(shop, worker))
    processes = running(shop, worker)
    shop.place(40)
    eventually(lambda: len(shop.ids()) == 40)
    worker.kill()
    worker.wait()
    eventually(lambda: not any(process.is_alive for process in processes))
    drained = [line["process"] for line in shop.log_of(worker) if line["event"] == "worker_stopped"]
    assert sorted(drained) == [1, 2]


@pytest.mark.parametrize(
    ("right", "wrong", "status", "told"),
    [
        ("effects:apply", "effects:nothing", 2, "error[config_invalid]: worker process "),
        ("redis://", "redis://127.0.0.1:1/0?", 4, "error[redis_unavailable]: worker process "),
    ],
    ids=["no such handler", "no Redis"],
)
def test_what_no_restart_mends_is_told_with_the_process_and_ends_all(
    shop: Shop, right: str, wrong: str, status: int, told: str
) -> None:
    shop.config_path.write_text(shop.config_path.read_text().replace(right, wrong))
    worker = shop.start_worker(processes=2)
    assert worker.wait(60) == status
    log = (shop.folder / "worker-0.log").read_text()
    assert told in log
    assert len([line for line in shop.log_of(worker) if line["event"] == "process_started"]) == 2, "none started again"


def test_a_stop_before_the_processes_have_begun_is_no_failure(shop: Shop) -> None:
    worker = shop.start_worker(processes=2)
    running(shop, worker)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0


def test_a_port_that_is_taken_is_told_before_anything_starts(shop: Shop) -> None:
    first = shop.start_worker(health="127.0.0.1:0", processes=2)
    address = shop.health_url(first).removeprefix("http://")
    second = shop.start_worker(health=address, processes=2)
    assert second.wait(60) == 2
    assert "error[port_taken]" in (shop.folder / "worker-1.log").read_text()
    assert lives(shop, second, 1) == []
    assert first.poll() is None
    os.kill(first.pid, signal.SIGINT)
    assert first.wait(30) == 0
