"""Redis servers of one's own: tests here stop, pause and reconfigure them."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from broker_bridge.stack.ports import free_port
from broker_bridge.stack.processes import this_process
from broker_bridge.stack.redis_server import RedisServer
from broker_bridge.stack.server import Surroundings

pytest.register_assert_rewrite(
    "claim_calls",
    "claim_checks_counts",
    "claim_checks_ending",
    "claim_checks_holding",
    "claim_checks_losses",
    "claim_labs",
)


def locate_redis() -> Path:
    program = shutil.which("redis-server")
    assert program, "redis-server is not installed: apt-get install redis-server"
    return Path(program)


@pytest.fixture(scope="session")
def start_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], RedisServer]]:
    """Starts real Redis servers that end with the test run, also when that is killed."""
    servers: list[RedisServer] = []

    def start() -> RedisServer:
        server = RedisServer(
            port=free_port(),
            folder=tmp_path_factory.mktemp("redis") / "data",
            locate=locate_redis,
            surroundings=Surroundings(tied_to=this_process(), boot_deadline_s=20, on_change=lambda: None),
        )
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def own_redis(start_redis: Callable[[], RedisServer]) -> RedisServer:
    """A Redis for this folder's tests. Whoever stops or reconfigures it puts it back."""
    return start_redis()


@pytest.fixture
async def raw(own_redis: RedisServer) -> AsyncIterator[Redis]:
    """A plain connection to ``own_redis``, beside the store under test."""
    async with Redis.from_url(own_redis.url) as client:
        yield client
