"""Kafka's settings, and the question that tells a serving broker from anything else on its port."""

from __future__ import annotations

import base64
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from broker_bridge.stack.kafka.handshake import ClusterView, describe_cluster, parse_api_versions, parse_metadata
from broker_bridge.stack.kafka.settings import Node, java_command, new_cluster_id, server_properties
from broker_bridge.stack.redis_server import call, quoted

NODES = [Node(1, 20_001, 20_011), Node(2, 20_002, 20_012), Node(3, 20_003, 20_013)]


def settings_of(node: Node, cluster: list[Node]) -> dict[str, str]:
    lines = server_properties(node, cluster, Path("/data/kafka")).splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_one_node_has_one_copy_of_everything() -> None:
    settings = settings_of(NODES[0], NODES[:1])
    assert settings["min.insync.replicas"] == "1"
    assert settings["controller.quorum.voters"] == "1@127.0.0.1:20011"
    for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
        assert settings[f"{topic}.replication.factor"] == "1"


def test_three_nodes_survive_one() -> None:
    settings = settings_of(NODES[1], NODES)
    assert settings["node.id"] == "2"
    assert settings["min.insync.replicas"] == "2"
    assert settings["default.replication.factor"] == "3"
    assert settings["offsets.topic.replication.factor"] == "3"
    assert settings["transaction.state.log.min.isr"] == "2"
    assert settings["controller.quorum.voters"] == "1@127.0.0.1:20011,2@127.0.0.1:20012,3@127.0.0.1:20013"


@pytest.mark.parametrize("cluster", [NODES[:1], NODES], ids=["one", "three"])
def test_settings_that_hold_for_every_node(cluster: list[Node]) -> None:
    settings = settings_of(cluster[-1], cluster)
    assert settings["auto.create.topics.enable"] == "false"
    assert settings["unclean.leader.election.enable"] == "false"
    assert settings["group.min.session.timeout.ms"] == "1000"
    assert settings["group.initial.rebalance.delay.ms"] == "0"
    assert settings["advertised.listeners"] == f"PLAINTEXT://127.0.0.1:{cluster[-1].port}"
    assert all("127.0.0.1" in part for part in settings["listeners"].split(","))


def test_cluster_ids_are_kafka_uuids() -> None:
    ids = {new_cluster_id() for _ in range(500)}
    assert len(ids) == 500
    assert not any(one.startswith("-") for one in ids)
    assert all(len(base64.urlsafe_b64decode(one + "==")) == 16 for one in ids)


def test_java_gets_its_heap_and_the_jars_in_order() -> None:
    command = java_command(Path("/java"), [Path("/a.jar"), Path("/b.jar")], heap_mb=288)
    assert command[0] == "/java"
    assert "-Xmx288m" in command
    assert command[-2:] == ["-cp", "/a.jar:/b.jar"]


# --- the handshake ---------------------------------------------------------------------------------------


def text(value: str | None) -> bytes:
    return struct.pack(">h", -1) if value is None else struct.pack(">h", len(value)) + value.encode()


def metadata(brokers: dict[int, int], cluster_id: str, controller: int) -> bytes:
    rows = b"".join(
        struct.pack(">i", node) + text("127.0.0.1") + struct.pack(">i", port) + text(None)
        for node, port in brokers.items()
    )
    return struct.pack(">ii", 0, len(brokers)) + rows + text(cluster_id) + struct.pack(">ii", controller, 0)


def api_versions(error: int, ranges: dict[int, tuple[int, int]]) -> bytes:
    rows = b"".join(struct.pack(">hhh", key, low, high) for key, (low, high) in ranges.items())
    return struct.pack(">hi", error, len(ranges)) + rows


def framed(correlation: int, body: bytes) -> bytes:
    return struct.pack(">ii", 4 + len(body), correlation) + body


def test_answers_are_read_field_by_field() -> None:
    view = parse_metadata(metadata({1: 20_001, 2: 20_002}, "cluster", 2))
    assert view == ClusterView(cluster_id="cluster", controller_id=2, brokers={1: 20_001, 2: 20_002})
    assert parse_api_versions(api_versions(0, {3: (0, 13), 18: (0, 4)})) == {3: (0, 13), 18: (0, 4)}
    with pytest.raises(ValueError, match="refused"):
        parse_api_versions(api_versions(35, {}))


def serve(answers: list[bytes]) -> tuple[int, Callable[[], None]]:
    """A server that gives these answers to one connection, one for each request; with its port and its end."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        connection, _ = listener.accept()
        with connection:
            for answer in answers:
                connection.recv(4096)
                connection.sendall(answer)

    thread = threading.Thread(target=run)
    thread.start()

    def end() -> None:
        thread.join(10)
        listener.close()
        assert not thread.is_alive()

    return listener.getsockname()[1], end


GOOD_VERSIONS = framed(18, api_versions(0, {3: (0, 13)}))
GOOD_METADATA = framed(3, metadata({1: 20_001}, "cluster", 1))


def test_a_broker_that_serves() -> None:
    port, end = serve([GOOD_VERSIONS, GOOD_METADATA])
    assert describe_cluster(port, timeout_s=5) == ClusterView("cluster", 1, {1: 20_001})
    end()


@pytest.mark.parametrize(
    "answers",
    [
        [],
        [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
        [b"-ERR unknown command\r\n"],
        [GOOD_VERSIONS[:9]],
        [framed(99, api_versions(0, {3: (0, 13)}))],
        [framed(18, api_versions(35, {}))],
        [framed(18, api_versions(0, {3: (5, 13)}))],
        [framed(18, api_versions(0, {}))],
        [GOOD_VERSIONS, GOOD_METADATA[:20]],
        [GOOD_VERSIONS, framed(3, b"\x00")],
    ],
    ids=[
        "hangs up",
        "speaks HTTP",
        "speaks Redis",
        "cut short",
        "another request's answer",
        "refuses",
        "too new",
        "no Metadata",
        "metadata cut",
        "metadata empty",
    ],
)
def test_anything_else_is_not_a_broker(answers: list[bytes]) -> None:
    port, end = serve(answers)
    assert describe_cluster(port, timeout_s=5) is None
    end()


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert describe_cluster(port, timeout_s=1) is None
    assert call(port, "PING") == b""


def test_a_server_that_says_nothing_costs_the_timeout_only() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert describe_cluster(silent.getsockname()[1], timeout_s=0.1) is None


def test_paths_in_redis_conf() -> None:
    assert quoted(Path('/a b/"c"\\d')) == '"/a b/\\"c\\"\\\\d"'
