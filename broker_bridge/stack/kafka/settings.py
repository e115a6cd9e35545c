"""`server.properties` of one node, and the Java command that runs it."""

from __future__ import annotations

import base64
import uuid
from dataclasses import dataclass
from pathlib import Path

DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True)
class Node:
    """One combined broker and controller node on loopback.

    With `relay_port` a second listener, `relayed_port`, sends its clients there: whoever comes by the relay stays on
    it, while the nodes among themselves and clients of `port` do not pass through it.
    """

    node_id: int
    port: int
    controller_port: int
    relayed_port: int | None = None
    relay_port: int | None = None

    @property
    def listeners(self) -> str:
        """Where it listens for clients, as Kafka writes it."""
        return self._listeners(self.relayed_port)

    @property
    def advertised(self) -> str:
        """What it tells clients to connect to."""
        return self._listeners(self.relay_port)

    def _listeners(self, relay: int | None) -> str:
        plain = f"PLAINTEXT://127.0.0.1:{self.port}"
        return plain if relay is None else f"{plain},RELAYED://127.0.0.1:{relay}"


def new_cluster_id() -> str:
    """A random Kafka uuid: 16 bytes, URL-safe base64, not beginning with a dash (tools take that for an option)."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode("ascii")
        if not text.startswith("-"):
            return text


def server_properties(node: Node, cluster: list[Node], log_dir: Path) -> str:
    """The settings of `node` in its cluster, one a line."""
    copies = len(cluster)
    in_sync = 2 if copies >= 3 else 1
    settings = {
        "process.roles": "broker,controller",
        "node.id": node.node_id,
        "controller.quorum.voters": ",".join(f"{one.node_id}@127.0.0.1:{one.controller_port}" for one in cluster),
        "controller.listener.names": "CONTROLLER",
        "listeners": f"{node.listeners},CONTROLLER://127.0.0.1:{node.controller_port}",
        "advertised.listeners": node.advertised,
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,RELAYED:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": log_dir,
        # Topics exist because somebody decided how many partitions they have.
        "auto.create.topics.enable": "false",
        "num.partitions": 4,
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "unclean.leader.election.enable": "false",
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": 2,
        # A group forms at once, and tests may use short sessions.
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        # A killed node is missed sooner than by default (9 s), and is let in again as soon.
        "broker.heartbeat.interval.ms": 500,
        "broker.session.timeout.ms": 3000 if copies == 1 else 4000,
        "log.retention.ms": 7 * DAY_MS,
        "offsets.retention.minutes": 14 * 24 * 60,
        # The default of 128 MB is half of a small heap.
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        "num.network.threads": 2,
        "num.io.threads": 4,
    }
    # A node for fault tests: topics may be forbidden, everything else is open. Alone only: three were seen
    # not to come up with it.
    if node.relay_port is not None and copies == 1:
        settings["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
        settings["allow.everyone.if.no.acl.found"] = "true"
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def java_command(java: Path, jars: list[Path], *, heap_mb: int) -> list[str]:
    """Java with the class path and the options every Kafka program of the stack shares."""
    return [
        str(java),
        f"-Xms{min(heap_mb, 128)}m",
        f"-Xmx{heap_mb}m",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
        "-cp",
        ":".join(str(jar) for jar in jars),
    ]
