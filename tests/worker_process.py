"""Real worker processes for tests: the installed command, a handler that logs its effects to a file, orders to send."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker_bridge import Event, Position
from broker_bridge.bootstrap import open_producer
from broker_bridge.config import load_config

SCHEMAS = Path(__file__).parents[1] / "schemas"
COMMAND = Path(sys.executable).parent / "broker-bridge"
WAIT_S = 60

HANDLER = """
import asyncio, json, os
from broker_bridge import Context, Message, RejectedError, handler

@handler
async def apply(message: Message[dict], context: Context) -> None:
    order = message.value
    if order["note"] == "card-declined":
        raise RejectedError("the card was declined", target_code="card_declined")
    await asyncio.sleep(float(os.environ.get("HANDLER_S", "0")))
    line = {"id": order["order_id"], "key": message.key.decode(), "offset": message.origin.offset,
            "partition": message.origin.partition, "attempt": context.attempt, "crashes": context.crashes,
            "replay": message.replay_id}
    with open(os.environ["EFFECTS"], "ab", buffering=0) as log:
        log.write(json.dumps(line).encode() + b"\\n")
    while order["note"] == "never-ends":
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            pass
"""

CONFIG = """
[bridge]
service = "test-worker"
schemas = {schemas}

[kafka]
bootstrap = {kafka}
session_timeout = "6s"
rebalance_timeout = "10s"

[redis]
url = {redis}
prefix = {name}

[[route]]
name = {name}
topic = {topic}
concurrency = 8
poll_records = 100
commit_interval = "100ms"
{route}

[route.contract]
subject = "shop.OrderPlaced"

[route.target]
kind = "python"
handler = "effects:apply"
timeout = "3s"

[route.retry]
in_place = 2
lanes = ["1s"]

[route.claims]
lease = "4s"

[route.shutdown]
drain = "3s"
grace = "500ms"
"""


@dataclass
class Shop:
    """One route on the test servers, its workers and what they did."""

    folder: Path
    kafka: str
    redis: str
    name: str
    route: str = ""
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        quoted = {
            "schemas": str(SCHEMAS), "kafka": self.kafka, "redis": self.redis, "name": self.name, "topic": self.topic,
        }  # fmt: skip
        text = CONFIG.format(route=self.route, **{key: json.dumps(value) for key, value in quoted.items()})
        self.config_path.write_text(text)
        (self.folder / "effects.py").write_text(HANDLER)
        self.effects_path.touch()

    @property
    def topic(self) -> str:
        return f"{self.name}.orders"

    @property
    def config_path(self) -> Path:
        return self.folder / "bridge.toml"

    @property
    def effects_path(self) -> Path:
        return self.folder / "effects.ndjson"

    def command(self, *arguments: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run ``broker-bridge`` to its end."""
        done = subprocess.run(
            [str(COMMAND), *arguments], cwd=self.folder, capture_output=True, text=True, timeout=WAIT_S, check=False
        )
        assert expect is None or done.returncode == expect, f"exit {done.returncode}: {done.stderr[-2000:]}"
        assert "Traceback" not in done.stderr
        return done

    def make_topics(self, partitions: int = 4) -> None:
        self.command("worker", "topics", "--create", str(partitions))

    def start_worker(
        self, *, handler_s: float = 0.0, health: str = "off", member: str | None = None, processes: int | None = None
    ) -> subprocess.Popen[bytes]:
        """A worker process, or with ``processes`` the parent of several; its log is ``worker-<n>.log``. ``member``
        makes it a static member of its group."""
        command = [str(COMMAND), "worker", "run", *(["--processes", str(processes)] if processes else [])]
        environment = {
            **os.environ,
            "EFFECTS": str(self.effects_path),
            "HANDLER_S": str(handler_s),
            "BROKER_BRIDGE_HEALTH__LISTEN": health,
            **({"BROKER_BRIDGE_KAFKA__MEMBER": member} if member else {}),
        }
        with (self.folder / f"worker-{len(self.workers)}.log").open("wb") as log:
            worker = subprocess.Popen(command, cwd=self.folder, stderr=log, env=environment)
        self.workers.append(worker)
        return worker

    def log_of(self, worker: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
        text = (self.folder / f"worker-{self.workers.index(worker)}.log").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def health_url(self, worker: subprocess.Popen[bytes]) -> str:
        """Where the worker answers, once it says so."""
        lines: list[str] = []

        def listening() -> bool:
            lines[:] = [line["url"] for line in self.log_of(worker) if line["event"] == "health_listening"]
            return bool(lines)

        eventually(listening)
        return lines[0]

    def place(self, count: int, *, customers: int = 10, first: int = 0, **changed: Any) -> list[Position]:
        """Send orders; the customer of number n is n modulo ``customers``."""
        return asyncio.run(self._place(count, customers, first, changed))

    async def _place(self, count: int, customers: int, first: int, changed: dict[str, Any]) -> list[Position]:
        events = [self._event(number, customers, changed) for number in range(first, first + count)]
        async with open_producer(load_config(self.config_path, {})) as producer:
            answers = await producer.send_batch(events)
        placed = [answer for answer in answers if isinstance(answer, Position)]
        assert len(placed) == count
        return placed

    def _event(self, number: int, customers: int, changed: dict[str, Any]) -> Event:
        customer = f"c{number % customers}"
        value = {
            "order_id": f"o-{number:05d}", "customer_id": customer, "amount_cents": number, "currency": "EUR",
            "placed_at": 1_790_000_000_000 + number, "note": None, "lines": [], "channel": "web", **changed,
        }  # fmt: skip
        return Event(
            topic=self.topic, value=value, contract="shop.OrderPlaced", key=customer, event_id=value["order_id"]
        )

    def effects(self) -> list[dict[str, Any]]:
        """What handlers did, in the order they did it."""
        return [json.loads(line) for line in self.effects_path.read_text().splitlines()]

    def ids(self) -> set[str]:
        return {effect["id"] for effect in self.effects()}

    def close(self) -> None:
        """End what still runs."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
            worker.wait(WAIT_S)


def eventually(holds: Callable[[], bool], *, within_s: float = WAIT_S) -> None:
    """Wait for a condition of the outside world, with a deadline."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s:g} s"
        time.sleep(0.05)


def get_json(url: str) -> tuple[int, dict[str, Any]]:
    """Status and body of a GET."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
