"""``broker-bridge outbox``: relay a service's outbox table to Kafka, look into it, decide about what Kafka refused."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.output import config_option, emit, json_option, note, read_config, run_async, table
from broker_bridge.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from broker_bridge.config import BridgeConfig
    from broker_bridge.database import Session, Steps
    from broker_bridge.outbox.metrics import RelayMetrics
    from broker_bridge.outbox.relay import RelayReport, RelaySettings
    from broker_bridge.outbox.shelf import Counts, SetAside

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])
SHOWN = 50


def database_option(command: Command) -> Command:
    """``--database`` and ``--table``: where the outbox is."""
    for option in (
        click.option(
            "--table", "table_", default="bridge_outbox", show_default=True, help="Name of the table, with its schema."
        ),
        click.option(
            "--database",
            "url",
            required=True,
            metavar="URL",
            envvar="BROKER_BRIDGE_OUTBOX_DATABASE",
            show_envvar=True,
            help="postgresql://USER@HOST/NAME or sqlite:///PATH. With a password in it, prefer the variable.",
        ),
    ):
        command = option(command)
    return command


@click.group("outbox")
def group() -> None:
    """Relay events that services wrote into a table in their own transactions.

    \b
    Example:
      broker-bridge outbox create-table --database postgresql://shop@db/shop
      broker-bridge outbox relay --database postgresql://shop@db/shop
      broker-bridge outbox status --database postgresql://shop@db/shop
    """


@group.command("relay", epilog="Exit status: 0 stopped, or all sent · 1 events were set aside · 2 bad input · 4 away.")
@config_option
@database_option
@json_option
@click.option("--once", is_flag=True, help="End when nothing is left to send, instead of waiting for more.")
@click.option(
    "--on-refused",
    type=click.Choice(["hold", "release"]),
    default="hold",
    show_default=True,
    help="What becomes of later events of a key when Kafka refuses one for good: wait for a decision, or go on.",
)
@click.option("--batch-rows", type=click.IntRange(1, 10_000), default=1_000, show_default=True, help="Events at once.")
@click.option("--poll-ms", type=click.IntRange(1), default=200, show_default=True, help="Pause where nothing waits.")
@click.option(
    "--lease-ms",
    type=click.IntRange(500),
    default=10_000,
    show_default=True,
    help="How long the keys of a killed relay wait for another.",
)
@click.option("--metrics", "metrics_at", metavar="HOST:PORT", help="Serve Prometheus metrics there.")
def relay(
    *,
    config_path: Path,
    url: str,
    table_: str,
    as_json: bool,
    once: bool,
    on_refused: str,
    batch_rows: int,
    poll_ms: int,
    lease_ms: int,
    metrics_at: str | None,
) -> int:
    """Send what is in the outbox to Kafka until SIGTERM or Ctrl-C, in order within a key.

    Any number of relays may run. Events are sent at least once, always under the same event id, and leave the table
    when Kafka has acknowledged them. While Kafka or the database is away it waits.

    \b
    Example:
      broker-bridge outbox relay --database postgresql://shop@db/shop
      broker-bridge outbox relay --database sqlite:///shop.db --once --json
    """
    config = read_config(config_path)
    from broker_bridge.observability.logging import configure_logging
    from broker_bridge.outbox.metrics import RelayMetrics
    from broker_bridge.outbox.relay import RelaySettings

    configure_logging(config.logging.level, config.logging.format, service=config.bridge.service)
    settings = RelaySettings(
        table=checked(table_),
        batch_rows=batch_rows,
        poll_ms=poll_ms,
        lease_ms=lease_ms,
        hold_keys=on_refused == "hold",
    )
    metrics = RelayMetrics()
    if metrics_at is not None:
        serve_metrics(metrics_at, metrics)
    report = run_async(_relay(config, url, settings, metrics, once=once))
    human = f"{report.sent} sent, {report.set_aside} set aside, {max(report.waiting, 0)} waiting"
    emit(report, human=human, as_json=as_json)
    return ExitCode.NO if report.set_aside and once else ExitCode.OK


async def _relay(
    config: BridgeConfig, url: str, settings: RelaySettings, metrics: RelayMetrics, *, once: bool
) -> RelayReport:
    from broker_bridge.bootstrap import make_outbox_relay

    made = make_outbox_relay(config, url, settings=settings, metrics=metrics)
    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(wanted, made.stop)
    return await (made.drain() if once else made.run())


def serve_metrics(at: str, metrics: Any) -> None:
    """Answer Prometheus in a thread of this process. Raises ``UsageError``."""
    from prometheus_client import start_http_server

    host, _, port = at.rpartition(":")
    try:
        start_http_server(int(port), addr=host.strip("[]") or "127.0.0.1", registry=metrics.registry)
    except (ValueError, OSError) as error:
        raise UsageError(f"cannot serve metrics: {error}", where=at, remedy="give a free HOST:PORT") from error


@group.command("create-table", epilog="Exit status: 0 the tables are there · 2 bad input · 4 database unavailable.")
@database_option
@json_option
@click.option("--print", "only_print", is_flag=True, help="Print the SQL for a migration, change nothing.")
def create_table(*, url: str, table_: str, as_json: bool, only_print: bool) -> None:
    """Create the outbox's tables where they are missing.

    \b
    Example:
      broker-bridge outbox create-table --database postgresql://shop@db/shop
      broker-bridge outbox create-table --database sqlite:///shop.db --print
    """
    from broker_bridge.database import Dialect
    from broker_bridge.outbox.tables import create, tables

    name = checked(table_)
    if only_print:
        dialect = Dialect.SQLITE if url.startswith("sqlite:") else Dialect.POSTGRES
        statements = tables(dialect, name)
        emit({"sql": statements}, human=";\n".join(statements) + ";", as_json=as_json)
        return
    run_async(_asked(url, lambda session: create(session.dialect, name), create=True))
    emit({"table": name}, human=f"{name} and {name}_bucket are there", as_json=as_json)


@group.command("status", epilog="Exit status: 0 nothing is set aside · 1 events are · 2 bad input · 4 unavailable.")
@database_option
@json_option
def status(*, url: str, table_: str, as_json: bool) -> int:
    """Show how much waits, for how long, and what Kafka will not take.

    \b
    Example:
      broker-bridge outbox status --database postgresql://shop@db/shop --json
    """
    name = checked(table_)
    counts, aside = run_async(_asked(url, lambda session: _status(session, name)))
    behind = counts.waiting - counts.sendable
    result = {**counts._asdict(), "behind_set_aside": behind, "rows_set_aside": aside}
    age = "" if counts.oldest_ms is None else f", the oldest for {counts.oldest_ms / 1000:.1f} s"
    lines = f"{counts.waiting} waiting{age}; {counts.leased_buckets} of 64 buckets being relayed"
    emit(result, human=lines, as_json=as_json)
    if aside and not as_json:
        emit(None, human=_aside_table(aside), as_json=False)
        note(
            f"{counts.set_aside} set aside, {behind} wait behind them; decide: broker-bridge outbox retry|discard ID …"
        )
    return ExitCode.NO if counts.set_aside else ExitCode.OK


def _status(session: Session, name: str) -> Steps[tuple[Counts, list[SetAside]]]:
    shelf = _shelf(session, name)
    counts = yield from shelf.counts()
    return counts, (yield from shelf.set_aside(SHOWN))


def _aside_table(rows: list[SetAside]) -> Any:
    columns = ("id", "topic", "event id", "bytes", "code", "error")
    cells = [(row.id, row.topic, row.event_id, row.size_bytes, row.error_code, row.error) for row in rows]
    return table(columns, cells, right=("id", "bytes"))


@group.command("retry", epilog="Exit status: 0 they will be sent again · 2 bad input · 3 none is set aside · 4 away.")
@click.argument("ids", metavar="ID...", type=click.IntRange(1), nargs=-1, required=True)
@database_option
@json_option
def retry(*, ids: tuple[int, ...], url: str, table_: str, as_json: bool) -> None:
    """Send events again that were set aside, after the cause was mended (a topic's size limit, for example).

    \b
    Example:
      broker-bridge outbox retry 4711 --database postgresql://shop@db/shop
    """
    name = checked(table_)
    found = run_async(_asked(url, lambda session: _shelf(session, name).retry(ids)))
    _tell(found, ids, "to be sent again", as_json=as_json)


@group.command(
    "discard", epilog="Exit status: 0 deleted · 2 bad input · 3 none is set aside · 4 unavailable · 5 no --yes."
)
@click.argument("ids", metavar="ID...", type=click.IntRange(1), nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Needed: the events are lost.")
@database_option
@json_option
def discard(*, ids: tuple[int, ...], yes: bool, url: str, table_: str, as_json: bool) -> None:
    """Delete events that were set aside; those behind them are sent.

    \b
    Example:
      broker-bridge outbox discard 4711 --yes --database postgresql://shop@db/shop
    """
    if not yes:
        raise UsageError("nothing was deleted: the events would be lost", remedy="say so with --yes")
    name = checked(table_)
    found = run_async(_asked(url, lambda session: _shelf(session, name).discard(ids)))
    _tell(found, ids, "deleted", as_json=as_json)


def _tell(found: list[int], ids: tuple[int, ...], done: str, *, as_json: bool) -> None:
    if not found:
        raise NotFoundError("none of these events is set aside", remedy="see: broker-bridge outbox status")
    missing = sorted(set(ids) - set(found))
    emit({"ids": found, "not_set_aside": missing}, human=f"{len(found)} {done}", as_json=as_json)
    if missing and not as_json:
        note(f"not set aside: {', '.join(map(str, missing))}")


def checked(name: str) -> str:
    """The table's name. Raises ``UsageError``."""
    from broker_bridge.database.statement import table_name

    return table_name(name)


def _shelf(session: Session, name: str) -> Any:
    from broker_bridge.outbox.shelf import Shelf

    return Shelf(session.dialect, table=name, hold_keys=True)


async def _asked(url: str, steps: Callable[[Session], Steps[T]], *, create: bool = False) -> T:
    """The answer of one procedure in one transaction."""
    from broker_bridge.database import open_database

    session = await open_database(url, create=create).connect()
    try:
        return await session.transaction(steps(session))
    finally:
        await session.close()
