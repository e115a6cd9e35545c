"""``broker-bridge worker``: run routes, make their topics."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.output import config_option, emit, json_option, note, read_config, run_async
from broker_bridge.cli.worker_processes import (
    CrewPlan,
    ProcessCount,
    check_member,
    crew_size,
    longest_end_s,
    make_crew,
    write_whole_lines,
)
from broker_bridge.errors import BridgeError

if TYPE_CHECKING:
    from broker_bridge.config import BridgeConfig, RouteConfig
    from broker_bridge.transport.base import TopicAdmin


@click.group("worker")
def group() -> None:
    """Deliver messages to their targets."""


routes_option = click.option(
    "--route", "routes", multiple=True, metavar="NAME", help="Only this route; may be given more than once."
)


@group.command("run")
@config_option
@routes_option
@click.option(
    "--processes",
    type=ProcessCount(),
    default="1",
    metavar="N",
    envvar="BROKER_BRIDGE_PROCESSES",
    show_default=True,
    show_envvar=True,
    help="Worker processes; auto: one for each processor, at most one for each partition.",
)
@click.option("--replication", type=click.IntRange(min=1), default=1, show_default=True, help="Of lanes it creates.")
def run(*, config_path: Path, routes: tuple[str, ...], processes: int, replication: int) -> int:
    """Run the routes of the configuration until SIGTERM or Ctrl-C, then drain.

    Lanes (retry, redrive, dead letters) that do not exist are created with the source topic's partition count. What is
    being handled at SIGTERM ends, the rest is given back, offsets are committed.

    With several processes each takes its share of the partitions. One that ends is started again; all end with this
    one, by SIGKILL too. Health and metrics of all are at the one address of the configuration. What the command ends
    with is the highest status of those that were told to end, 137 where one had to be killed.

    \b
    Example:
      broker-bridge worker run --config bridge.toml --route payments
      broker-bridge worker run --processes auto

    \b
    Exit status: 0 drained · 2 bad configuration · 3 a topic does not exist · 4 a server is unavailable at start ·
    5 unsafe settings · 6 ended without a handler that did not end · 7 one of several processes kept ending.
    """
    config = read_config(config_path)
    _log_as(config)
    named = list(routes) or None
    if processes == 1:
        run_async(_run(config, named, replication))
        return ExitCode.OK
    return run_async(_run_several(config, config_path, named, processes, replication))


@group.command("process", hidden=True)
@config_option
@routes_option
@click.option("--number", type=click.IntRange(min=1), required=True, help="Which of the processes this one is.")
@click.option("--health-fd", type=click.IntRange(min=3), help="A listening socket to answer health on.")
def process(*, config_path: Path, routes: tuple[str, ...], number: int, health_fd: int | None) -> None:
    """One of the processes of ``worker run --processes``, which starts it; ends when its standard input does.

    \b
    Example:
      broker-bridge worker process --number 1
    """
    from broker_bridge.worker.crew import PATIENCE_S
    from broker_bridge.worker.parent_watch import end_with_parent

    write_whole_lines()
    try:
        config = read_config(config_path)
        _log_as(config, process=number)
        end_with_parent(patience_s=longest_end_s(config.routes) + PATIENCE_S)
        run_async(_run_one_of_several(config, list(routes) or None, health_fd))
    except BridgeError as error:
        error.where = ": ".join(part for part in (f"worker process {number}", error.where) if part)
        raise


def _log_as(config: BridgeConfig, *, process: int | None = None) -> None:
    from broker_bridge.observability.logging import configure_logging

    configure_logging(config.logging.level, config.logging.format, service=config.bridge.service, process=process)


async def _run(config: BridgeConfig, routes: list[str] | None, replication: int) -> None:
    from broker_bridge.bootstrap import make_worker

    worker = make_worker(config, routes=routes)
    _at_signals(worker.stop)
    await _prepare(config, routes, replication)
    await worker.run()


async def _run_one_of_several(config: BridgeConfig, routes: list[str] | None, health_fd: int | None) -> None:
    """What has to be so at start was looked at by the parent."""
    from broker_bridge.bootstrap import make_worker

    worker = make_worker(config, routes=routes)
    _at_signals(worker.stop)
    if worker.health is not None and health_fd is not None:
        os.set_inheritable(health_fd, False)
        worker.health.adopt(socket.socket(fileno=health_fd))
    await worker.run()


async def _run_several(
    config: BridgeConfig, config_path: Path, routes: list[str] | None, wanted: int, replication: int
) -> int:
    from broker_bridge.bootstrap import chosen_routes

    asked: list[bool] = []
    _at_signals(lambda: asked.append(True))
    check_member(config)
    chosen = chosen_routes(config, routes)
    await _prepare(config, routes, replication)
    size = crew_size(wanted, await _partitions(config, chosen))
    if asked:
        return ExitCode.OK
    if size == 1:
        await _run_one_of_several(config, routes, None)
        return ExitCode.OK
    crew = make_crew(CrewPlan(config_path, config, chosen, routes or (), size))
    _at_signals(crew.stop)
    if config.health.listen is None:
        return await crew.run()
    from broker_bridge.worker.crew_health import CrewHealth

    health = CrewHealth(config.health.listen, crew)
    await health.start()
    try:
        return await crew.run()
    finally:
        await health.stop()


def _at_signals(stop: Callable[[], None]) -> None:
    """Have SIGTERM and Ctrl-C ask for a drain."""
    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(wanted, stop)


async def _prepare(config: BridgeConfig, routes: list[str] | None, replication: int) -> None:
    """See to what must be so before the routes start."""
    from broker_bridge.bootstrap import chosen_routes
    from broker_bridge.worker.safe_start import prepare_start

    async with _admin(config) as admin:
        await prepare_start(admin, config, chosen_routes(config, routes), replication=replication)


async def _partitions(config: BridgeConfig, routes: Sequence[RouteConfig]) -> dict[str, int]:
    """How many partitions each route shares out."""
    async with _admin(config) as admin:
        counts = await admin.describe([route.topic for route in routes])
    return {route.name: counts[route.topic] or 1 for route in routes}


@contextlib.asynccontextmanager
async def _admin(config: BridgeConfig) -> AsyncIterator[TopicAdmin]:
    from broker_bridge.bootstrap import open_transport

    admin = open_transport(config).admin()
    await admin.start()
    try:
        yield admin
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
    from broker_bridge.worker.topics import ensure_topics

    async with _admin(config) as admin:
        return await ensure_topics(admin, config.routes, partitions=partitions, replication=replication)
