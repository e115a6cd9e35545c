"""What tests with real servers share: one Kafka and one Redis for the whole run, clean names for each test.

The servers end with the test process, also when that is killed; a missing program is a failure, not a skip.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from schema_registries import apicurio, registry_url, schema_server, served_schemas  # noqa: F401 - fixtures of all tests

from broker_bridge.stack import LocalStack, StackSpec
from broker_bridge.stack.ports import free_port
from broker_bridge.stack.postgres_server import PostgresServer, find_postgres
from broker_bridge.stack.processes import this_process
from broker_bridge.stack.server import Surroundings


def pytest_configure() -> None:
    """A shell has what it runs in the background ignore Ctrl-C, and programs pass that on to those they start: no test
    could then interrupt anything. What has a handler here has the default there."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The installed command is that of this very environment, whether or not it is activated.
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A real Kafka node and a real Redis on free loopback ports, shared by all tests of the run.

    A test that stops or breaks a server must leave it running again.
    """
    spec = StackSpec(data_dir=tmp_path_factory.mktemp("stack"), tie_to_parent=True, install=True)
    with LocalStack(spec) as running:
        yield running
    running.wipe()


@pytest.fixture
def kafka_bootstrap(stack: LocalStack) -> str:
    """`host:port` of the shared Kafka. It is never emptied: take topic and group names from `unique`."""
    return stack.bootstrap


@pytest.fixture
def redis_url(stack: LocalStack) -> str:
    """URL of the shared Redis, emptied for this test."""
    with redis.Redis.from_url(stack.redis_url) as client:
        client.flushall()
    return stack.redis_url


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real PostgreSQL on a free loopback port, shared by all tests of the run.

    Its folder is not below pytest's own, which root keeps from the user that PostgreSQL runs as.
    """
    folder = Path(tempfile.mkdtemp(prefix="broker-bridge-postgres-"))
    folder.chmod(0o755)
    server = PostgresServer(
        port=free_port(),
        folder=folder / "server",
        programs=find_postgres(install=True),
        surroundings=Surroundings(tied_to=this_process(), boot_deadline_s=60, on_change=lambda: None),
    )
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """URL of an empty database for this test; it goes with it, whoever is still connected."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server.url, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    yield postgres_server.database_url(name)
    with psycopg.connect(postgres_server.url, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A prefix for topics, groups and keys that no other test has; valid as a Kafka name."""
    test = re.sub(r"[^a-z0-9-]+", "-", request.node.name.lower()).strip("-")[:40]
    return f"{test}-{uuid.uuid4().hex[:8]}"
