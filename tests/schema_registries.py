"""Schema registries for tests: our own server on a folder of its own, and a real one.

``registry_url`` gives each in turn. Subjects are never cleaned up in the real one: take names from ``unique``; it has
dashes, so that any record may be under it. Ids are not those of another registry.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker_bridge.contracts.registry_api import RegistryApi
from broker_bridge.contracts.served_folder import ServedFolder
from broker_bridge.schema_server.server import SchemaServer
from broker_bridge.stack.kafka.jars import cached_jars
from broker_bridge.stack.ports import free_port
from broker_bridge.stack.prerequisites import find_tools
from broker_bridge.stack.processes import this_process
from broker_bridge.stack.registry.archive import cached_runner, prepare_runner
from broker_bridge.stack.registry.server import RegistryServer
from broker_bridge.stack.server import Surroundings

BOOT_WITHIN_S = 120


@contextmanager
def served(folder: Path, *, read_only: bool = False, body_within_s: float = 10.0) -> Iterator[str]:
    """The URL under which a folder is served, by a thread of this process."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="schema-server")
    thread.start()
    registry = RegistryApi(ServedFolder(folder), read_only=read_only)
    server = SchemaServer("127.0.0.1:0", registry, body_within_s=body_within_s)
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(30)
        try:
            yield server.url
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


@pytest.fixture
def served_schemas(tmp_path: Path) -> Path:
    """The folder behind ``schema_server``, empty at first."""
    folder = tmp_path / "served-schemas"
    folder.mkdir()
    (folder / "ids.jsonl").touch()
    return folder


@pytest.fixture
def schema_server(served_schemas: Path) -> Iterator[str]:
    """The URL of ``broker-bridge schemas serve``'s own server, for this test."""
    with served(served_schemas) as url:
        yield url


@pytest.fixture(scope="session")
def apicurio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A real Apicurio on a free loopback port, shared by all tests of the run; level BACKWARD."""
    needs_maven = cached_runner() is None or cached_jars() is None
    tools = find_tools(need_maven=needs_maven, install=True, progress=print)
    runner = prepare_runner(tools.mvn, progress=print)
    server = RegistryServer(
        port=free_port(),
        folder=tmp_path_factory.mktemp("apicurio") / "registry",
        runtime=lambda: (tools.java, runner),
        surroundings=Surroundings(tied_to=this_process(), boot_deadline_s=BOOT_WITHIN_S, on_change=lambda: None),
    )
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(params=["serve", "apicurio"])
def registry_url(request: pytest.FixtureRequest) -> str:
    """A schema registry's URL, the test runs once with each: our server, a real registry."""
    if request.param == "serve":
        url: str = request.getfixturevalue("schema_server")
        return url
    server: RegistryServer = request.getfixturevalue("apicurio")
    return server.url
