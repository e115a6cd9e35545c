"""A worker as ``broker-bridge worker run`` makes it, that also writes down each call of its target.

Run as ``python -m broker_bridge.chaos.observed_worker ORDERS.json``. A line is written before the call and one after
it, each by a single append that is in the kernel when the call goes on: SIGKILL does not take it back.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from broker_bridge.chaos.evidence import OK, now_ms
from broker_bridge.chaos.private_config import Privacy, private_config
from broker_bridge.config import RouteConfig, load_config
from broker_bridge.consumer import Context
from broker_bridge.errors import BridgeError
from broker_bridge.message import Message
from broker_bridge.worker.targets.base import Form, Target


class Notebook:
    """A file that several processes append whole lines to."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, **fields: object) -> None:
        """One line, in one system call."""
        os.write(self._fd, json.dumps({"at_ms": now_ms(), **fields}).encode() + b"\n")


class ObservedTarget:
    """Calls the target and writes down that it did."""

    def __init__(self, target: Target, notebook: Notebook) -> None:
        self._target = target
        self._notebook = notebook
        self._calls = itertools.count()

    of_values: None = None

    @property
    def form(self) -> Form:
        """That of the target."""
        return self._target.form

    async def start(self) -> None:
        """See ``Target.start``."""
        await self._target.start()

    async def stop(self) -> None:
        """See ``Target.stop``."""
        await self._target.stop()

    async def deliver(self, message: Message[Any], context: Context) -> object:
        """See ``Target.deliver``."""
        call, worker = next(self._calls), os.getpid()
        key, record_key, origin = message.idempotency_key, (message.key or b"").decode(errors="replace"), message.origin
        self._notebook.write(
            what="start", worker=worker, call=call, key=key, record_key=record_key, origin=str(origin),
            token=context.token, attempt=context.attempt, crashes=context.crashes,
        )  # fmt: skip
        outcome = "cancelled"
        try:
            answer = await self._target.deliver(message, context)
            outcome = OK
            return answer
        except BridgeError as error:
            outcome = error.code
            raise
        except Exception as error:
            outcome = type(error).__name__
            raise
        finally:
            self._notebook.write(what="end", worker=worker, call=call, outcome=outcome)


def shift_clock(seconds: float) -> None:
    """Move this process's wall clock. Waiting goes by the monotonic clock and stays as it is, as on a machine whose
    time was set wrong."""
    if not seconds:
        return
    read, read_ns = time.time, time.time_ns
    time.time = lambda: read() + seconds
    time.time_ns = lambda: read_ns() + int(seconds * 1e9)


async def run(orders: dict[str, Any]) -> None:
    """What ``broker-bridge worker run`` does, with the target observed."""
    from broker_bridge.bootstrap import make_worker, open_transport
    from broker_bridge.chaos.aimed_worker import aimed_parts
    from broker_bridge.observability.logging import configure_logging
    from broker_bridge.worker.topics import ensure_lanes

    config = private_config(load_config(Path(orders["config"]), os.environ), Privacy(**orders["privacy"]))
    configure_logging(config.logging.level, "json", service=config.bridge.service)
    notebook = Notebook(Path(orders["deliveries"]))
    aimed = aimed_parts(config)

    def observe(_route: RouteConfig, target: Target) -> Target:
        return ObservedTarget(target if aimed is None else aimed.target(target), notebook)

    transport, store = (None, None) if aimed is None else (aimed.transport, aimed.store)
    worker = make_worker(config, observe=observe, transport=transport, store=store)
    for wanted in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(wanted, worker.stop)
    admin = open_transport(config).admin()
    await admin.start()
    try:
        for route in config.routes:
            await ensure_lanes(admin, route, replication=orders["replication"])
    finally:
        await admin.stop()
    await worker.run()


def main() -> int:
    """Run to the end; status 0 after a drain, 1 after a failure that is told as one line of JSON."""
    orders = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    shift_clock(orders["clock_shift_s"])
    try:
        asyncio.run(run(orders))
    except BridgeError as error:
        print(json.dumps({"event": "worker_failed", **error.problem()}), file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
