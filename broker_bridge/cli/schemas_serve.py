"""`broker-bridge schemas serve`: the folder of schemas as a schema registry for stock clients."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker_bridge.cli.output import emit, json_option, run_async
from broker_bridge.config.types import is_loopback, split_address
from broker_bridge.errors import UnsafeSettingsError, UsageError

if TYPE_CHECKING:
    from broker_bridge.schema_server.server import SchemaServer


@click.command("serve")
@click.option(
    "--listen", default="127.0.0.1:8081", show_default=True, metavar="HOST:PORT", help="Where; port 0 is a free one."
)
@click.option(
    "--schemas",
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("schemas"),
    show_default=True,
    envvar="BROKER_BRIDGE_SCHEMAS",
    show_envvar=True,
    help="Folder of schemas: <subject>/v<N>.avsc and ids.jsonl.",
)
@click.option("--read-only", is_flag=True, help="Register nothing: clients get the schemas that are in the folder.")
@click.option("--allow-remote", is_flag=True, help="Listen beyond this machine. Whoever reaches the port may register.")
@json_option
def serve(*, listen: str, folder: Path, read_only: bool, allow_remote: bool, as_json: bool) -> None:
    """Serve the folder over the Confluent schema registry's REST API until SIGTERM or Ctrl-C.

    Stock serializers of any language use it as schema.registry.url. What they register becomes a file and a line of
    ids.jsonl, for you to review and commit; each new version must follow the rule of its subject (PUT /config/SUBJECT,
    kept in compatibility.json; BACKWARD where nothing is set). Several may serve one folder. Nothing can be deleted.

    \b
    Example:
      broker-bridge schemas serve
      broker-bridge schemas serve --listen 127.0.0.1:0 --schemas schemas --read-only --json

    \b
    Exit status: 0 ended as told · 2 wrong option, a damaged folder, or a port that is taken · 3 no such folder ·
    5 not loopback without --allow-remote
    """
    try:
        host, _ = split_address(listen)
    except ValueError as error:
        raise UsageError(str(error), where="--listen", remedy="for example: --listen 127.0.0.1:8081") from error
    if not is_loopback(host) and not allow_remote:
        raise UnsafeSettingsError(
            "whoever reaches this address may read and register schemas: there is no login",
            where=f"--listen {listen}",
            remedy="listen on 127.0.0.1, or say so with --allow-remote (better with --read-only, or behind a proxy)",
        )
    from broker_bridge.contracts.registry_api import RegistryApi
    from broker_bridge.contracts.served_folder import ServedFolder
    from broker_bridge.observability.logging import configure_logging
    from broker_bridge.schema_server.server import SchemaServer

    configure_logging("info", "json" if as_json else "console", service="schemas")
    served = ServedFolder(folder)
    count = len(list(served.directory().contracts()))
    served.levels()
    run_async(_serve(SchemaServer(listen, RegistryApi(served, read_only=read_only)), folder, count, read_only))


async def _serve(server: SchemaServer, folder: Path, count: int, read_only: bool) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(wanted, over.set)
    await server.start()
    try:
        emit(
            {"url": server.url, "schemas": str(folder), "versions": count, "read_only": read_only},
            human=f"{server.url} serves {count} schemas of {folder}" + (", read-only" if read_only else ""),
        )
        await over.wait()
    finally:
        await server.stop()
