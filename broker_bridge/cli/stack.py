"""`broker-bridge stack`: a real Kafka and Redis on this machine, up, down, and how they are."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from broker_bridge.errors import BridgeError, UsageError
from broker_bridge.stack import StackSpec, StackStatus, commands

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_RUNNING = 3

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".bridge/stack"),
    show_default=True,
    help="Folder of the stack: data, logs, state file.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")


@click.group("stack")
def group() -> None:
    """Run a local Kafka and Redis: real servers, loopback only, no Docker needed.

    \b
    Example:
      broker-bridge stack up
      broker-bridge stack status
      broker-bridge stack down --wipe
    """


@group.command()
@data_dir_option
@click.option("--brokers", type=click.Choice(["1", "3"]), default="1", show_default=True, help="Kafka nodes.")
@click.option("--kafka-port", type=click.IntRange(1, 65_532), help="Kafka's port (three nodes: the first). [free]")
@click.option("--redis-port", type=click.IntRange(1, 65_534), help="Redis' port. [free]")
@click.option("--kafka-heap-mb", type=click.IntRange(192), help="Heap of each node. [512; of three: 288]")
@click.option(
    "--engine",
    type=click.Choice(["auto", "native", "docker"]),
    default="auto",
    show_default=True,
    help="Ordinary processes, or containers. auto takes processes where it can.",
)
@click.option("--compose-file", type=click.Path(path_type=Path), help="For containers. [compose/compose.yaml]")
@click.option("--install", is_flag=True, help="As root on Debian: apt-get what is missing.")
@click.option(
    "--boot-deadline",
    "boot_deadline_s",
    type=click.FloatRange(1),
    default=90,
    show_default=True,
    help="Seconds until a server must answer.",
)
@json_option
def up(
    data_dir: Path,
    brokers: str,
    kafka_port: int | None,
    redis_port: int | None,
    kafka_heap_mb: int | None,
    engine: str,
    compose_file: Path | None,
    install: bool,
    boot_deadline_s: float,
    as_json: bool,
) -> None:
    """Start Kafka and Redis and wait until both answer.

    They go on after this command ends, until `stack down`. Data of an earlier run in the folder is used again.

    \b
    Examples:
      broker-bridge stack up
      broker-bridge stack up --brokers 3 --kafka-port 19092 --redis-port 16379 --json

    \b
    Exit status: 0 both answer · 1 failed, nothing is left running · 2 the command line is wrong
    """
    with reported(as_json):
        spec = StackSpec(
            data_dir=data_dir,
            brokers=int(brokers),
            kafka_port=kafka_port,
            redis_port=redis_port,
            kafka_heap_mb=kafka_heap_mb,
            engine=engine,  # type: ignore[arg-type]  # click checked the choice
            compose_file=compose_file,
            install=install,
            boot_deadline_s=boot_deadline_s,
        )
        show(commands.up(spec, progress=say), as_json)


@group.command()
@data_dir_option
@click.option("--wipe", is_flag=True, help="Remove the data, logs and state file too.")
@json_option
def down(data_dir: Path, wipe: bool, as_json: bool) -> None:
    """End exactly the servers that `stack up` started in this folder. The data stays unless --wipe is given.

    \b
    Examples:
      broker-bridge stack down
      broker-bridge stack down --wipe

    \b
    Exit status: 0 nothing of the stack runs any more · 1 failed · 2 the command line is wrong
    """
    with reported(as_json):
        ran = commands.down(data_dir, wipe=wipe, progress=say)
        if as_json:
            click.echo(json.dumps({"state": "stopped", "ran": ran, "wiped": wipe, "data_dir": str(data_dir)}))
        else:
            ended = "Stopped." if ran else f"Nothing ran in {data_dir}."
            click.echo(ended + (" Its data is gone." if wipe else ""))


@group.command()
@data_dir_option
@json_option
def status(data_dir: Path, as_json: bool) -> None:
    """Ask Kafka and Redis of this folder whether they answer.

    \b
    Example:
      broker-bridge stack status --json

    \b
    Exit status: 0 all answer · 1 some do not, or failed · 2 the command line is wrong · 3 not running
    """
    with reported(as_json):
        found = commands.status(data_dir)
        show(found, as_json)
    if found.state != "running":
        sys.exit(EXIT_NOT_RUNNING if found.state == "stopped" else EXIT_FAILED)


def show(status: StackStatus, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(status)))
        return
    if not status.servers:
        click.echo(f"No stack in {status.data_dir}. Start one: broker-bridge stack up")
        return
    click.echo(f"{status.state}  ({status.engine}, data in {status.data_dir})")
    for server in status.servers:
        condition = "answers" if server.answers else "does not answer" if server.alive else "is not running"
        pid = f"  pid {server.pid}" if server.pid else ""
        click.echo(f"  {server.name:<13} 127.0.0.1:{server.port:<6} {condition}{pid}")
    click.echo(f"  Kafka         {status.bootstrap}")
    click.echo(f"  Redis         {status.redis_url}")
    if status.state == "degraded":
        click.echo("  Logs: " + ", ".join(server.log for server in status.servers if not server.answers))


def say(line: str) -> None:
    """Progress goes to standard error: standard output is the result."""
    click.echo(line, err=True)


@contextmanager
def reported(as_json: bool) -> Iterator[None]:
    """Turn an error of ours into its message and exit status."""
    try:
        yield
    except BridgeError as error:
        if as_json:
            click.echo(json.dumps(error.problem()))
        else:
            click.echo(f"error: {error.where}: {error.detail}" if error.where else f"error: {error.detail}", err=True)
            if error.remedy:
                click.echo(f"what to do: {error.remedy}", err=True)
        sys.exit(EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED)
