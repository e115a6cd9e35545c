"""The local stack with real servers: they answer, survive what tests do to them, and are gone afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaTimeoutError, UnknownTopicOrPartitionError

from broker_bridge.errors import PortTakenError, StackError
from broker_bridge.stack import LocalStack, StackSpec
from broker_bridge.stack.processes import ProcessIdentity, wait_until
from broker_bridge.stack.state import read_state

DEADLINE_S = 120.0


def identities(data_dir: Path) -> list[ProcessIdentity]:
    """The processes that the state file names."""
    state = read_state(data_dir)
    assert state is not None
    named = [*(node.process for node in state.kafka), state.redis.process]
    named.append(state.registry.process if state.registry else None)
    return [one.identity() for one in named if one is not None]


def processes_in(folder: Path) -> set[int]:
    """Every process that works in this folder, known to the state file or not."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if (entry / "cwd").readlink().is_relative_to(folder):
                    found.add(int(entry.name))
    return found


@pytest.fixture
def own_dir(tmp_path: Path) -> Iterator[Path]:
    """A folder for a stack of the test's own. No process may be left in it, whatever the test did."""
    folder = tmp_path / "own stack"
    yield folder
    all_gone = wait_until(lambda: not processes_in(folder), timeout_s=15)
    left = processes_in(folder)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert all_gone, f"left behind: {left}"


@asynccontextmanager
async def kafka_admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


def run_cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["broker-bridge", "stack", *arguments], capture_output=True, text=True, timeout=DEADLINE_S)


# --- what the shared stack is ----------------------------------------------------------------------------


async def test_a_record_goes_in_and_comes_out(kafka_bootstrap: str, unique: str) -> None:
    async with kafka_admin(kafka_bootstrap) as admin:
        await admin.create_topics([NewTopic(unique, num_partitions=2, replication_factor=1)])
    async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, acks="all", enable_idempotence=True) as producer:
        await producer.send_and_wait(unique, b"value", key=b"key")
    consumer = AIOKafkaConsumer(
        unique,
        bootstrap_servers=kafka_bootstrap,
        group_id=unique,
        auto_offset_reset="earliest",
        session_timeout_ms=1000,
    )
    async with consumer:
        record = await consumer.getone()
    assert (record.key, record.value) == (b"key", b"value")


async def test_no_topic_is_made_by_accident(kafka_bootstrap: str, unique: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, request_timeout_ms=2000) as producer:
        with pytest.raises((KafkaTimeoutError, UnknownTopicOrPartitionError)):
            await producer.send_and_wait(unique, b"value")
    async with kafka_admin(kafka_bootstrap) as admin:
        assert unique not in await admin.list_topics()


async def test_the_broker_runs_with_the_settings_it_was_given(stack: LocalStack) -> None:
    async with kafka_admin(stack.bootstrap) as admin:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, "1")])
    entries = answer.resources[0][4]
    settings = {entry[0]: entry[1] for entry in entries}
    assert settings["auto.create.topics.enable"] == "false"
    assert settings["min.insync.replicas"] == "1"
    assert settings["group.min.session.timeout.ms"] == "1000"


def test_redis_keeps_what_it_acknowledged_and_evicts_nothing(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        settings = client.config_get("maxmemory-policy", "appendonly", "appendfsync", "save", "bind")
    assert settings == {
        "maxmemory-policy": "noeviction",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "bind": "127.0.0.1",
    }


def test_the_redis_fixture_is_empty_each_time(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left behind", "by the test")


def test_redis_comes_back_with_its_data_on_its_port(stack: LocalStack, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("claim", "held")
    before = stack.redis.pid
    stack.restart_redis()
    assert stack.redis.pid != before
    assert stack.redis_url == redis_url
    with redis.Redis.from_url(redis_url) as client:
        assert client.get("claim") == b"held"


def test_a_crashed_redis_is_seen_and_started_again(stack: LocalStack) -> None:
    stack.redis.kill()
    status = stack.status()
    assert status.state == "degraded"
    assert [server.name for server in status.servers if not server.alive] == ["Redis"]
    with pytest.raises(StackError, match="not running"):
        stack.redis.kill(signal.SIGSTOP)
    stack.redis.start()
    assert stack.status().state == "running"


def test_a_paused_broker_is_alive_but_does_not_answer(stack: LocalStack) -> None:
    broker = stack.kafka.brokers[0]
    broker.kill(signal.SIGSTOP)
    try:
        status = stack.status()
    finally:
        broker.kill(signal.SIGCONT)
    kafka = status.servers[0]
    assert (kafka.alive, kafka.answers) == (True, False)
    assert wait_until(broker.answers, DEADLINE_S)


async def test_a_broker_killed_comes_back_with_its_topics(stack: LocalStack, unique: str) -> None:
    async with kafka_admin(stack.bootstrap) as admin:
        await admin.create_topics([NewTopic(unique, num_partitions=3, replication_factor=1)])
    stack.kafka.brokers[0].kill()
    assert stack.status().servers[0].alive is False
    stack.kafka.brokers[0].restart()
    async with kafka_admin(stack.bootstrap) as admin:
        (topic,) = await admin.describe_topics([unique])
    assert len(topic["partitions"]) == 3


def test_a_strangers_redis_is_not_taken_for_ours(stack: LocalStack, tmp_path: Path) -> None:
    other = LocalStack(StackSpec(data_dir=tmp_path))
    with pytest.raises(StackError, match="no stack was started"):
        LocalStack.attach(tmp_path)
    assert other.status().state == "stopped"
    assert stack.redis.answers()
    ours = stack.redis.process.identity
    assert ours is not None
    stack.redis.process.identity = ProcessIdentity(os.getpid(), ours.started)
    try:
        assert not stack.redis.answers(), "the port answers, but another process does"
    finally:
        stack.redis.process.identity = ours


# --- from one process to the next ------------------------------------------------------------------------


def test_up_in_one_process_down_in_another_and_the_data_is_there_again(own_dir: Path) -> None:
    up = run_cli("up", "--data-dir", str(own_dir), "--json")
    assert up.returncode == 0, up.stderr
    first = json.loads(up.stdout)
    with redis.Redis.from_url(first["redis_url"]) as client:
        client.set("kept", "yes")
    running = identities(own_dir)
    assert len(running) == 2
    assert all(identity.is_alive for identity in running)

    attached = LocalStack.attach(own_dir)
    attached.redis.restart()
    assert LocalStack.attach(own_dir).status().state == "running", "the state file knows the new process"

    assert run_cli("down", "--data-dir", str(own_dir)).returncode == 0
    assert not any(identity.is_alive for identity in [*running, *identities(own_dir)])
    assert run_cli("status", "--data-dir", str(own_dir)).returncode == 3

    with LocalStack(StackSpec(data_dir=own_dir, tie_to_parent=True)) as again:
        assert again.bootstrap == first["bootstrap"], "free ports of the last time are used again"
        with redis.Redis.from_url(again.redis_url) as client:
            assert client.get("kept") == b"yes"
        with pytest.raises(StackError, match="runs here already"):
            LocalStack(StackSpec(data_dir=own_dir)).start()
        again.wipe()
    assert not (own_dir / "kafka-1").exists()
    assert not (own_dir / "redis").exists()


PARENT = """
import sys
from pathlib import Path
from broker_bridge.stack import LocalStack, StackSpec
stack = LocalStack(StackSpec(data_dir=Path(sys.argv[1]), registry=True, tie_to_parent=True)).start()
print("up", flush=True)
sys.stdin.read()
"""


def test_tied_servers_are_gone_when_the_parent_is_killed(own_dir: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(own_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        servers = identities(own_dir)
        assert len(servers) == 3
        assert all(identity.is_alive for identity in servers)
        parent.send_signal(signal.SIGKILL)
        assert all(identity.wait_gone(DEADLINE_S) for identity in servers)
    assert run_cli("status", "--data-dir", str(own_dir)).returncode == 3


@pytest.mark.parametrize("servers", [1, 2], ids=["Kafka launched", "Redis too"])
def test_a_start_that_is_killed_half_way_leaves_nothing(servers: int, own_dir: Path) -> None:
    command = ["broker-bridge", "stack", "up", "--data-dir", str(own_dir)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as starting:
        path = own_dir / "stack.json"
        assert wait_until(lambda: path.exists() and len(identities(own_dir)) >= servers, DEADLINE_S)
        starting.send_signal(signal.SIGKILL)
    assert all(identity.wait_gone(DEADLINE_S) for identity in identities(own_dir))


def test_an_interrupted_start_cleans_up(own_dir: Path) -> None:
    command = ["broker-bridge", "stack", "up", "--data-dir", str(own_dir)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as starting:
        path = own_dir / "stack.json"
        assert wait_until(lambda: path.exists() and len(identities(own_dir)) >= 1, DEADLINE_S)
        [kafka, *_] = identities(own_dir)
        kafka.send(signal.SIGSTOP)  # a start cannot be over while Kafka is held
        try:
            starting.send_signal(signal.SIGINT)
        finally:
            kafka.send(signal.SIGCONT)
        _, said = starting.communicate(timeout=DEADLINE_S)
        assert starting.returncode == 130
    assert "Traceback" not in said
    assert not any(identity.is_alive for identity in identities(own_dir))


# --- what goes wrong -------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_named_and_nothing_is_left(stack: LocalStack, own_dir: Path) -> None:
    with pytest.raises(PortTakenError) as caught:
        LocalStack(StackSpec(data_dir=own_dir, kafka_port=stack.kafka.brokers[0].port)).start()
    assert caught.value.where == f"127.0.0.1:{stack.kafka.brokers[0].port}"


def test_a_broker_that_dies_while_starting_shows_its_log(own_dir: Path) -> None:
    with LocalStack(StackSpec(data_dir=own_dir, tie_to_parent=True)):
        pass
    meta = own_dir / "kafka-1" / "data" / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
    with pytest.raises(StackError, match="Kafka node 1 ended while starting") as caught:
        LocalStack(StackSpec(data_dir=own_dir, tie_to_parent=True)).start()
    assert caught.value.where == str(own_dir / "kafka-1.log")
    assert "node" in caught.value.detail.split("its log ends with:")[1]
    assert not any(identity.is_alive for identity in identities(own_dir))


def test_a_heap_this_machine_does_not_have(own_dir: Path) -> None:
    spec = StackSpec(data_dir=own_dir, kafka_heap_mb=500_000_000, tie_to_parent=True)
    with pytest.raises(StackError, match="heap"):
        LocalStack(spec).start()
    assert not any(identity.is_alive for identity in identities(own_dir))


def test_a_server_that_does_not_answer_in_time(own_dir: Path) -> None:
    spec = StackSpec(data_dir=own_dir, boot_deadline_s=0.3, tie_to_parent=True)
    with pytest.raises(StackError, match=r"did not answer on 127\.0\.0\.1:\d+ within 0\.3 s"):
        LocalStack(spec).start()
    assert not any(identity.is_alive for identity in identities(own_dir))


# --- three nodes -----------------------------------------------------------------------------------------


@pytest.mark.soak  # of the killed leader, test_kafka_three_brokers.py shows more
async def test_three_nodes_keep_accepting_writes_when_one_is_killed(own_dir: Path, unique: str) -> None:
    with LocalStack(StackSpec(data_dir=own_dir, brokers=3, tie_to_parent=True)) as three:
        assert len(three.bootstrap.split(",")) == 3
        async with kafka_admin(three.bootstrap) as admin:
            await admin.create_topics([NewTopic(unique, num_partitions=3, replication_factor=3)])
        async with AIOKafkaProducer(
            bootstrap_servers=three.bootstrap, acks="all", enable_idempotence=True, request_timeout_ms=30_000
        ) as producer:
            for partition in range(3):
                await producer.send_and_wait(unique, b"before", partition=partition)
            three.kafka.brokers[0].kill()
            for partition in range(3):
                await producer.send_and_wait(unique, b"without one", partition=partition)
        assert three.status().state == "degraded"
        three.kafka.brokers[0].start()
        assert wait_until(three.kafka.answers, DEADLINE_S)
        assert three.status().state == "running"
    assert not any(identity.is_alive for identity in identities(own_dir))
