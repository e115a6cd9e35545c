"""I11 on real parts: worker processes, Kafka, Redis and PostgreSQL; the handler writes its effect beside the inbox.

The same course of events is run without the inbox, to show that it repeats effects where nothing prevents it.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from worker_process import Shop, eventually

from broker_bridge.bootstrap import open_transport
from broker_bridge.config import load_config
from broker_bridge.inbox import Inbox

ORDERS = 200
DECLINED = 5
DOOMED = range(20, 200, 40)
"""Orders whose handler kills its process, once each, after the effect was committed (W1)."""

HANDLER = """
import asyncio, os, pathlib, signal
import psycopg
from broker_bridge import Context, Message, RejectedError, handler
from broker_bridge.inbox import Inbox

inbox = Inbox(consumer="billing")
with_inbox = os.environ["WITH_INBOX"] == "1"
doomed = {int(number) for number in os.environ["DOOMED"].split()}

def once(name):
    try:
        pathlib.Path(name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True

@handler
async def apply(message: Message[dict], context: Context) -> None:
    order = message.value
    if order["note"] == "card-declined" and not pathlib.Path("cards-accepted").exists():
        raise RejectedError("the card was declined", target_code="card_declined")
    # a frozen worker's transaction would otherwise hold up whoever got its message until it wakes
    limit = "-c idle_in_transaction_session_timeout=1000"
    async with await psycopg.AsyncConnection.connect(os.environ["DATABASE"], options=limit) as connection:
        if not with_inbox or await inbox.first_time(connection, message, context):
            await asyncio.sleep(0.01)
            await connection.execute("INSERT INTO invoices VALUES (%s)", [order["order_id"]])
    number = int(order["order_id"][2:])
    if number in doomed and once(f"died-{number}"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


class BillingShop:
    """Workers that bill orders in PostgreSQL."""

    def __init__(self, shop: Shop, url: str) -> None:
        self.shop = shop
        self._url = url
        (shop.folder / "effects.py").write_text(HANDLER)
        patient = shop.config_path.read_text().replace('lanes = ["1s"]', 'lanes = ["1s", "2s", "4s", "8s"]')
        shop.config_path.write_text(patient.replace('lease = "4s"', 'lease = "4s"\ncrash_limit = 1_000'))
        asyncio.run(self._prepare())

    async def _prepare(self) -> None:
        async with await psycopg.AsyncConnection.connect(self._url) as connection:
            await Inbox(consumer="billing").create(connection)
            await connection.execute("CREATE TABLE invoices (order_id text)")

    def invoices(self) -> Counter[str]:
        with psycopg.connect(self._url) as connection:
            return Counter(order_id for (order_id,) in connection.execute("SELECT order_id FROM invoices").fetchall())

    def has_all(self, count: int, *, workers: int = 2) -> bool:
        """Whether so many orders have an invoice; workers that died are replaced meanwhile."""
        running = [worker for worker in self.shop.workers if worker.poll() is None]
        for _ in range(workers - len(running)):
            self.shop.start_worker()
        return len(self.invoices()) >= count

    def committed(self) -> bool:
        """Whether the group has nothing left to do: the source and every lane it reads are behind it."""
        return asyncio.run(self._committed())

    async def _committed(self) -> bool:
        config = load_config(self.shop.config_path, {})
        [route] = config.routes
        topics = [route.topic, *route.lane_names.read(route.retry.lanes_ms)]
        reader = open_transport(config).reader()
        await reader.start()
        try:
            offsets = await reader.offsets(topics)
            done = await reader.group_offsets(route.group, topics)
        finally:
            await reader.stop()
        return all(first == end or (done[tp] or 0) >= end for tp, (first, end) in offsets.items())

    def deaths(self) -> int:
        return len(list(self.shop.folder.glob("died-*")))


@pytest.fixture
def billing(
    tmp_path: Path,
    kafka_bootstrap: str,
    redis_url: str,
    postgres_url: str,
    unique: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[BillingShop]:
    monkeypatch.setenv("DATABASE", postgres_url)
    monkeypatch.setenv("DOOMED", " ".join(map(str, DOOMED)))
    monkeypatch.setenv("WITH_INBOX", "1")
    shop = Shop(tmp_path, kafka_bootstrap, redis_url, unique)
    shop.make_topics()
    yield BillingShop(shop, postgres_url)
    shop.close()


def forget_claims(billing: BillingShop, redis_url: str) -> int:
    """W3: Redis loses every claim of the group."""
    with redis.Redis.from_url(redis_url) as client:
        claims = [key for key in client.scan_iter(count=1_000) if f"}}:{billing.shop.name}:".encode() in key]
        return int(client.delete(*claims)) if claims else 0


def course_of_events(billing: BillingShop, redis_url: str) -> None:
    """Crashes after effects, a frozen worker, lost claims, everything sent twice, and a replay run twice."""
    shop = billing.shop
    for _ in range(2):
        shop.start_worker()
    shop.place(ORDERS, customers=20)
    shop.place(DECLINED, customers=20, first=ORDERS, note="card-declined")
    eventually(lambda: billing.has_all(60))
    frozen = next(worker for worker in shop.workers if worker.poll() is None)
    frozen.send_signal(signal.SIGSTOP)  # W2: for longer than the lease and the session
    eventually(lambda: billing.has_all(ORDERS, workers=3))
    frozen.send_signal(signal.SIGCONT)
    assert forget_claims(billing, redis_url) >= ORDERS
    shop.place(ORDERS, customers=20)
    shop.place(DECLINED, customers=20, first=ORDERS, note="card-declined")
    eventually(lambda: billing.has_all(ORDERS) and billing.committed())
    (shop.folder / "cards-accepted").touch()
    shop.command("replay", "plan", "--why", "cards accepted", "--out", "plan.jsonl")
    shop.command("replay", "run", "plan.jsonl", "--execute", "--yes")
    eventually(lambda: billing.has_all(ORDERS + DECLINED))
    assert forget_claims(billing, redis_url) > 0
    shop.place(DECLINED, customers=20, first=ORDERS, note="card-declined")
    last = shop.place(1, customers=1, first=ORDERS + DECLINED)
    assert last
    eventually(lambda: billing.has_all(ORDERS + DECLINED + 1))
    eventually(billing.committed)
    end(shop.workers)


def end(workers: list[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(30) == 0


def test_i11_one_invoice_an_order_whatever_happens(billing: BillingShop, redis_url: str) -> None:
    course_of_events(billing, redis_url)
    invoices = billing.invoices()
    assert billing.deaths() == len(DOOMED)
    assert len(invoices) == ORDERS + DECLINED + 1
    assert {order: count for order, count in invoices.items() if count != 1} == {}


def test_the_same_without_the_inbox_repeats_effects(
    billing: BillingShop, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WITH_INBOX", "0")
    course_of_events(billing, redis_url)
    repeated = {order: count for order, count in billing.invoices().items() if count > 1}
    assert len(repeated) >= ORDERS, "all claims were lost and every order came again"
