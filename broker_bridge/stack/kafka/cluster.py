"""The Kafka of a local stack: one node, or three that replicate."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from broker_bridge.errors import StackError
from broker_bridge.stack.kafka.handshake import describe_cluster
from broker_bridge.stack.kafka.settings import Node, java_command, server_properties
from broker_bridge.stack.ports import is_free
from broker_bridge.stack.processes import wait_until
from broker_bridge.stack.server import Server, Surroundings, port_taken

Runtime = Callable[[], tuple[Path, list[Path]]]
FORMAT_HEAP_MB = 96
FORMAT_DEADLINE_S = 60
ANSWER_TIMEOUT_S = 2.0


class KafkaBroker(Server):
    """One node. `runtime` finds Java and the jars, and is asked only when the node really starts."""

    stop_grace_s = 20.0

    def __init__(
        self,
        node: Node,
        cluster: list[Node],
        *,
        folder: Path,
        cluster_id: str,
        heap_mb: int,
        runtime: Runtime,
        surroundings: Surroundings,
    ) -> None:
        super().__init__(name=f"Kafka node {node.node_id}", port=node.port, folder=folder, surroundings=surroundings)
        self.node = node
        self._cluster = cluster
        self._cluster_id = cluster_id
        self._heap_mb = heap_mb
        self._runtime = runtime

    def prepare(self) -> None:
        if not is_free(self.node.controller_port):
            raise port_taken(f"the controller of {self.name}", self.node.controller_port)
        self.folder.mkdir(parents=True, exist_ok=True)
        text = server_properties(self.node, self._cluster, self.folder / "data")
        self._properties.write_text(text, encoding="ascii")
        if not (self.folder / "data" / "meta.properties").exists():
            self._format()

    def command(self) -> Sequence[str]:
        java, jars = self._runtime()
        return [*java_command(java, jars, heap_mb=self._heap_mb), "kafka.Kafka", str(self._properties)]

    def answers(self) -> bool:
        """It serves, it belongs to our cluster, and the controller has let it in."""
        view = describe_cluster(self.port, timeout_s=ANSWER_TIMEOUT_S)
        return (
            view is not None
            and view.cluster_id == self._cluster_id
            and view.controller_id >= 0
            and view.brokers.get(self.node.node_id) == self.port
        )

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _format(self) -> None:
        java, jars = self._runtime()
        tool = ["kafka.tools.StorageTool", "format", "-t", self._cluster_id, "-c", str(self._properties)]
        try:
            done = subprocess.run(  # noqa: S603 - Java as located and our own arguments
                [*java_command(java, jars, heap_mb=FORMAT_HEAP_MB), *tool],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=FORMAT_DEADLINE_S,
                check=False,
            )
            said = "" if done.returncode == 0 else (done.stdout + done.stderr).strip()[-1500:] or "no message"
        except subprocess.TimeoutExpired:
            said = f"no end after {FORMAT_DEADLINE_S} s"
        if said:
            remedy = "if its data is of no use any more: broker-bridge stack down --wipe"
            raise StackError(f"the data folder could not be formatted: {said}", where=str(self.folder), remedy=remedy)


class KafkaCluster:
    """All nodes of the stack."""

    def __init__(self, brokers: list[KafkaBroker]) -> None:
        self.brokers = brokers

    @property
    def bootstrap(self) -> str:
        """`host:port` of every node, as clients take it."""
        return ",".join(f"127.0.0.1:{broker.port}" for broker in self.brokers)

    @property
    def relayed_bootstrap(self) -> str:
        """The same by the relays; empty where there are none."""
        return ",".join(f"127.0.0.1:{broker.node.relay_port}" for broker in self.brokers if broker.node.relay_port)

    @property
    def is_running(self) -> bool:
        return all(broker.is_running for broker in self.brokers)

    def answers(self) -> bool:
        """Every node answers and sees all the others."""
        return all(broker.answers() for broker in self.brokers) and self._all_see_all()

    def launch(self) -> None:
        """Start all nodes; they need each other to become ready."""
        in_parallel([broker.launch for broker in self.brokers])

    def wait_ready(self) -> None:
        for broker in self.brokers:
            broker.wait_ready()
        limit_s = self.brokers[0].surroundings.boot_deadline_s
        if not wait_until(self._all_see_all, limit_s):
            raise self.brokers[0].process.failure(f"and the others did not find each other within {limit_s:g} s")

    def let_go(self) -> None:
        """Nodes that answer and are tied to nobody may outlive this process."""
        for broker in self.brokers:
            broker.let_go()

    def start(self) -> None:
        """Start all nodes and return once each answers and sees all. Raises StackError, PortTakenError."""
        self.launch()
        self.wait_ready()
        self.let_go()

    def stop(self) -> None:
        # Together: a node that is alone waits for a quorum that will not come back.
        in_parallel([broker.stop for broker in self.brokers])

    def restart(self) -> None:
        """All nodes down, then all up, on the same ports with the same data."""
        self.stop()
        self.start()

    def _all_see_all(self) -> bool:
        ports = {broker.node.node_id: broker.port for broker in self.brokers}
        views = (describe_cluster(broker.port, timeout_s=ANSWER_TIMEOUT_S) for broker in self.brokers)
        return all(view is not None and view.brokers == ports for view in views)


def in_parallel(actions: list[Callable[[], None]]) -> None:
    """Run all to their end, then raise the first failure, if any."""
    if len(actions) == 1:
        actions[0]()
        return
    with ThreadPoolExecutor(max_workers=len(actions)) as pool:
        futures = [pool.submit(action) for action in actions]
    for future in futures:
        future.result()
