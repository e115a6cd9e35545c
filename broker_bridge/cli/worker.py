"""``broker-bridge worker``: run routes, make their topics."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker_bridge.cli.output import config_option, emit, json_option, note, read_config, run_async

if TYPE_CHECKING:
    from broker_bridge.config import BridgeConfig


@click.group("worker")
def group() -> None:
    """Deliver messages to their targets."""


@group.command("run")
@config_option
@click.option("--route", "routes", multiple=True, metavar="NAME", help="Only this route; may be given more than once.")
@click.option("--replication", type=click.IntRange(min=1), default=1, show_default=True, help="Of lanes it creates.")
def run(*, config_path: Path, routes: tuple[str, ...], replication: int) -> None:
    """Run the routes of the configuration until SIGTERM or Ctrl-C, then drain.

    Lanes (retry, redrive, dead letters) that do not exist are created with the source topic's partition count. What is
    being handled at SIGTERM ends, the rest is given back, offsets are committed.

    \b
    Example:
      broker-bridge worker run --config bridge.toml --route payments

    \b
    Exit status: 0 drained · 2 bad configuration · 3 a topic does not exist · 4 Kafka or Redis unavailable at start ·
    5 unsafe settings · 6 ended without a handler that did not end.
    """
    config = read_config(config_path)
    from broker_bridge.observability.logging import configure_logging

    configure_logging(config.logging.level, config.logging.format, service=config.bridge.service)
    run_async(_run(config, list(routes) or None, replication))


async def _run(config: BridgeConfig, routes: list[str] | None, replication: int) -> None:
    from broker_bridge.bootstrap import make_worker

    worker = make_worker(config, routes=routes)
    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(wanted, worker.stop)
    await _prepare(config, routes, replication)
    await worker.run()


async def _prepare(config: BridgeConfig, routes: list[str] | None, replication: int) -> None:
    from broker_bridge.bootstrap import open_transport
    from broker_bridge.worker.safe_start import prepare_start

    chosen = [route for route in config.routes if routes is None or route.name in routes]
    admin = open_transport(config).admin()
    await admin.start()
    try:
        await prepare_start(admin, config, chosen, replication=replication)
    finally:
        await admin.stop()


@group.command("topics")
@config_option
@json_option
@click.option("--create", "partitions", type=click.IntRange(min=1), metavar="N", help="Create source and output too.")
@click.option("--replication", type=click.IntRange(min=1), default=1, show_default=True, help="Of what is created.")
def topics(*, config_path: Path, as_json: bool, partitions: int | None, replication: int) -> None:
    """Create the lanes of every route; with --create also missing source and output topics, with N partitions.

    \b
    Example:
      broker-bridge worker topics --config bridge.toml --create 4

    \b
    Exit status: 0 all there · 2 bad configuration, or a lane has other partitions than its source ·
    3 a topic does not exist · 4 Kafka unavailable.
    """
    config = read_config(config_path)
    created = run_async(_topics(config, partitions, replication))
    emit({"created": created}, human="\n".join(f"created {name}" for name in created) or "nothing to create")
    if not as_json and created:
        note(f"{len(created)} topics created")


async def _topics(config: BridgeConfig, partitions: int | None, replication: int) -> list[str]:
    from broker_bridge.bootstrap import open_transport
    from broker_bridge.worker.topics import ensure_topics

    admin = open_transport(config).admin()
    await admin.start()
    try:
        return await ensure_topics(admin, config.routes, partitions=partitions, replication=replication)
    finally:
        await admin.stop()
