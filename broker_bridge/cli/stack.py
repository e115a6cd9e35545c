"""`broker-bridge stack`: a real Kafka and Redis on this machine, up, down, and how they are."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from broker_bridge.cli.exit_codes import ExitCode
from broker_bridge.cli.output import emit, json_option, note
from broker_bridge.stack import StackSpec, StackStatus, commands
from broker_bridge.stack.spec import Engine

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_DATA_DIR = Path(".bridge/stack")
STATUS_CODES = {"running": ExitCode.OK, "degraded": ExitCode.UNAVAILABLE, "stopped": ExitCode.NOT_FOUND}


def data_dir_option(command: Command) -> Command:
    """`--data-dir`: which stack is meant."""
    option = click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        default=DEFAULT_DATA_DIR,
        show_default=True,
        help="Folder of the stack: data, logs, state file.",
    )
    return option(command)


@click.group("stack")
def group() -> None:
    """Run a local Kafka and Redis, and a schema registry: real servers, loopback only, no Docker needed.

    \b
    Example:
      broker-bridge stack up
      broker-bridge stack up --registry
      broker-bridge stack status
      broker-bridge stack down --wipe
    """


@group.command()
@data_dir_option
@click.option("--brokers", type=click.Choice(["1", "3"]), default="1", show_default=True, help="Kafka nodes.")
@click.option(
    "--kafka-port",
    type=click.IntRange(1, 65_532),
    help="Kafka's port; of three nodes the first.  [default: a free one]",
)
@click.option("--redis-port", type=click.IntRange(1, 65_534), help="Redis' port.  [default: a free one]")
@click.option("--registry", is_flag=True, help="A schema registry too: Apicurio, with the Confluent API.")
@click.option("--registry-port", type=click.IntRange(1, 65_534), help="The registry's port.  [default: a free one]")
@click.option(
    "--kafka-heap-mb", type=click.IntRange(192), help="Java heap of each node.  [default: 512; of three: 288]"
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "native", "docker"]),
    default="auto",
    show_default=True,
    help="Ordinary processes or containers; auto takes processes where it can.",
)
@click.option(
    "--compose-file", type=click.Path(path_type=Path), help="For containers.  [default: compose/compose.yaml]"
)
@click.option("--install", is_flag=True, help="As root on Debian: apt-get the programs that are missing.")
@click.option(
    "--boot-deadline",
    "boot_deadline_s",
    type=click.FloatRange(1),
    default=90,
    show_default=True,
    help="Seconds until each server must answer.",
)
@json_option
def up(
    data_dir: Path,
    brokers: str,
    kafka_port: int | None,
    redis_port: int | None,
    registry: bool,
    registry_port: int | None,
    kafka_heap_mb: int | None,
    engine: Engine,
    compose_file: Path | None,
    install: bool,
    boot_deadline_s: float,
    as_json: bool,
) -> None:
    """Start Kafka and Redis, with --registry a schema registry too, and wait until all answer.

    They go on after this command ends, until `stack down`. The data of an earlier run in the folder is used again,
    and so are its ports while they are free.

    \b
    Examples:
      broker-bridge stack up
      broker-bridge stack up --brokers 3 --kafka-port 19092 --redis-port 16379 --json
      broker-bridge stack up --registry --registry-port 8081

    \b
    Exit status: 0 all answer · 2 wrong option, or a port is taken · 3 a program is missing
                 4 a server did not start; nothing is left running
    """
    spec = StackSpec(
        data_dir=data_dir,
        brokers=int(brokers),
        kafka_port=kafka_port,
        redis_port=redis_port,
        registry=registry,
        registry_port=registry_port,
        kafka_heap_mb=kafka_heap_mb,
        engine=engine,
        compose_file=compose_file,
        install=install,
        boot_deadline_s=boot_deadline_s,
    )
    found = commands.up(spec, progress=note)
    emit(found, human=described(found))


@group.command()
@data_dir_option
@click.option("--wipe", is_flag=True, help="Remove data, logs and state file too.")
@json_option
def down(data_dir: Path, wipe: bool, as_json: bool) -> None:
    """End exactly the servers that `stack up` started in this folder. Their data stays unless --wipe is given.

    \b
    Examples:
      broker-bridge stack down
      broker-bridge stack down --wipe

    \b
    Exit status: 0 nothing of this stack runs any more · 2 wrong option · 4 it could not be ended
    """
    ran = commands.down(data_dir, wipe=wipe, progress=note)
    text = "Stopped." if ran else f"Nothing ran in {data_dir}."
    if wipe:
        text += " Its data is gone."
    emit({"state": "stopped", "ran": ran, "wiped": wipe, "data_dir": str(data_dir)}, human=text)


@group.command()
@data_dir_option
@json_option
def status(data_dir: Path, as_json: bool) -> ExitCode:
    """Ask every server of this folder whether it answers.

    \b
    Example:
      broker-bridge stack status --json

    \b
    Exit status: 0 all answer · 2 wrong option · 3 not running · 4 some do not answer, or it cannot be told
    """
    found = commands.status(data_dir)
    emit(found, human=described(found))
    return STATUS_CODES[found.state]


def described(status: StackStatus) -> str:
    """The status as a person reads it."""
    if not status.servers:
        return f"No stack in {status.data_dir}. Start one: broker-bridge stack up" + data_dir_argument(status)
    lines = [f"{status.state} ({status.engine}), data in {status.data_dir}"]
    for server in status.servers:
        condition = "answers" if server.answers else "does not answer" if server.alive else "is not running"
        pid = f" (pid {server.pid})" if server.pid else ""
        log = "" if server.answers else f", log: {server.log}"
        lines.append(f"  {server.name:<13} 127.0.0.1:{server.port:<5} {condition}{pid}{log}")
    if status.state == "running":
        variables = f"BROKER_BRIDGE_KAFKA__BOOTSTRAP={status.bootstrap} BROKER_BRIDGE_REDIS__URL={status.redis_url}"
        if status.registry_url is not None:
            variables += f" BROKER_BRIDGE_REGISTRY__URL={status.registry_url}"
        lines.append(f"Use it: export {variables}")
        lines.append("End it: broker-bridge stack down" + data_dir_argument(status))
    return "\n".join(lines)


def data_dir_argument(status: StackStatus) -> str:
    """What a command about this stack needs to be given, as a shell takes it."""
    here = str(DEFAULT_DATA_DIR.absolute())
    return "" if status.data_dir == here else f" --data-dir {shlex.quote(status.data_dir)}"
