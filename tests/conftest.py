"""What tests with real servers share: one Kafka and one Redis for the whole run, clean names for each test.

The servers end with the test process, also when that is killed; a missing program is a failure, not a skip.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import pytest
import redis

from broker_bridge.stack import LocalStack, StackSpec


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


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A prefix for topics, groups and keys that no other test has; valid as a Kafka name."""
    test = re.sub(r"[^a-z0-9-]+", "-", request.node.name.lower()).strip("-")[:40]
    return f"{test}-{uuid.uuid4().hex[:8]}"
