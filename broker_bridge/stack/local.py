"""The local stack: a real Kafka, a real Redis and on request a schema registry, as ordinary processes.

with LocalStack(StackSpec(tie_to_parent=True)) as stack:
    use(stack.kafka.bootstrap, stack.redis.url)
    stack.redis.restart()
    stack.kafka.brokers[0].kill(signal.SIGSTOP)
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from broker_bridge.errors import PortTakenError, StackError
from broker_bridge.stack.kafka.cluster import KafkaBroker, KafkaCluster
from broker_bridge.stack.kafka.jars import KAFKA_VERSION, cached_jars, prepare_jars
from broker_bridge.stack.kafka.settings import Node
from broker_bridge.stack.plan import check_fixed_ports, plan_layout
from broker_bridge.stack.prerequisites import Progress, Tools, existing, find_tools
from broker_bridge.stack.processes import this_process
from broker_bridge.stack.redis_server import RedisServer, server_version
from broker_bridge.stack.registry.archive import APICURIO_VERSION, cached_runner, prepare_runner
from broker_bridge.stack.registry.server import RegistryServer
from broker_bridge.stack.server import Server, Surroundings
from broker_bridge.stack.spec import ServerStatus, StackSpec, StackStatus
from broker_bridge.stack.state import ProcessState, StackState, exclusive, read_state, remove_data, write_state

PORT_TRIES = 3


class LocalStack:
    """Kafka and Redis under one data folder. `kafka` and `redis` are there once it was started or attached, `registry`
    where the stack has one."""

    kafka: KafkaCluster
    redis: RedisServer
    registry: RegistryServer | None = None

    def __init__(self, spec: StackSpec | None = None, *, progress: Progress | None = None) -> None:
        self.spec = spec or StackSpec()
        self.data_dir = self.spec.folder
        self._progress: Progress = progress or (lambda _line: None)
        self._state: StackState | None = None
        self._writing = threading.Lock()
        self._tools: Tools | None = None

    @classmethod
    def attach(cls, data_dir: Path, *, progress: Progress | None = None) -> LocalStack:
        """The stack that some process started in this folder. Raises StackError when there is none."""
        state = read_state(data_dir.expanduser().absolute())
        if state is None:
            remedy = f"start one: broker-bridge stack up --data-dir {data_dir}"
            raise StackError("no stack was started in this folder", where=str(data_dir), remedy=remedy)
        spec = StackSpec(
            data_dir=data_dir,
            brokers=len(state.kafka),
            kafka_heap_mb=state.kafka_heap_mb,
            registry=state.registry is not None,
        )
        stack = cls(spec, progress=progress)
        stack._adopt(state)
        return stack

    # --- what clients need ---------------------------------------------------------------------------------

    @property
    def bootstrap(self) -> str:
        """Kafka's `host:port` list."""
        return self.kafka.bootstrap

    @property
    def redis_url(self) -> str:
        return self.redis.url

    @property
    def registry_url(self) -> str | None:
        """The schema registry, None where the stack has none."""
        return None if self.registry is None else self.registry.url

    # --- life ----------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start all and return once they answer.

        Raises StackError (it runs already, a server died, the folder is not writable), PortTakenError and
        ToolMissingError. Whatever was started by a failed call is ended again.
        """
        with exclusive(self.data_dir):
            previous = read_state(self.data_dir)
            if previous is not None and (living := previous.living()):
                raise StackError(
                    f"a stack runs here already: {', '.join(living)}",
                    where=str(self.data_dir),
                    remedy="use it (broker-bridge stack status), end it (broker-bridge stack down), "
                    "or name another --data-dir",
                )
            need_maven = cached_jars() is None or (self.spec.registry and cached_runner() is None)
            self._tools = find_tools(need_maven=need_maven, install=self.spec.install, progress=self._progress)
            prepare_jars(self._tools.mvn, progress=self._progress)
            if self.spec.registry:
                prepare_runner(self._tools.mvn, progress=self._progress)
            self._boot_on_free_ports(previous)
        return self

    def stop(self) -> None:
        """End the servers of this stack; nothing to do when they are gone. The data stays."""
        if self._state is None:
            return
        with exclusive(self.data_dir):
            self._refresh()
            self._stop_servers()

    def wipe(self) -> None:
        """Stop, then remove what the stack wrote. Raises StackError when it cannot be removed."""
        self.stop()
        remove_data(self.data_dir)

    def restart_redis(self) -> None:
        """Redis down and up again on its port, with what it had on disk."""
        self.redis.restart()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- state ---------------------------------------------------------------------------------------------

    def status(self) -> StackStatus:
        """Ask every server now."""
        if self._state is None:
            return StackStatus(state="stopped", data_dir=str(self.data_dir))
        self._refresh()
        servers = [
            ServerStatus(
                name=server.name,
                port=server.port,
                pid=server.pid if server.is_running else None,
                alive=server.is_running,
                answers=server.is_running and server.answers(),
                log=str(server.process.log_path),
            )
            for server in self._servers()
        ]
        tied_to = self._state.tied_to
        return StackStatus(
            state="running"
            if all(one.answers for one in servers)
            else "degraded"
            if any(one.alive for one in servers)
            else "stopped",
            data_dir=str(self.data_dir),
            engine=self._state.engine,
            bootstrap=self.bootstrap,
            redis_url=self.redis_url,
            registry_url=self.registry_url,
            tied_to_pid=tied_to.pid if tied_to else None,
            versions=self._state.versions,
            servers=servers,
        )

    # --- inside --------------------------------------------------------------------------------------------

    def _boot_on_free_ports(self, previous: StackState | None) -> None:
        """Someone may take a port between our look and the server's bind: then draw again."""
        check_fixed_ports(self.spec)
        for _ in range(PORT_TRIES - 1):
            with contextlib.suppress(PortTakenError):
                return self._boot(plan_layout(self.spec, previous))
        return self._boot(plan_layout(self.spec, previous, keep_ports=False))

    def _boot(self, layout: StackState) -> None:
        tied_to = ProcessState.of(this_process()) if self.spec.tie_to_parent else None
        layout = layout.model_copy(update={"tied_to": tied_to, "versions": self._versions()})
        self._adopt(layout)
        with self._undone_on_failure():
            write_state(self.data_dir, layout)
            self._progress(f"starting Kafka on {self.bootstrap} ({self.spec.brokers} node(s))")
            self.kafka.launch()
            self._progress(f"starting Redis on 127.0.0.1:{self.redis.port}")
            self.redis.launch()
            if self.registry is not None:
                self._progress(f"starting the schema registry on {self.registry.url}")
                self.registry.launch()
                self.registry.wait_ready()
            self.redis.wait_ready()
            self.kafka.wait_ready()
            # Only now: killed before this line, the start takes all with it.
            for server in self._servers():
                server.let_go()
            self._progress("all answer" if self.registry is not None else "Kafka and Redis answer")

    @contextlib.contextmanager
    def _undone_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # Ctrl-C in the middle of a boot too
            self._stop_servers()
            if isinstance(error, OSError):
                detail = f"the data folder cannot be written: {error.strerror or error}"
                remedy = "make it writable, or name another folder with --data-dir"
                raise StackError(detail, where=str(error.filename or self.data_dir), remedy=remedy) from error
            raise

    def _servers(self) -> list[Server]:
        return [*self.kafka.brokers, self.redis, *([] if self.registry is None else [self.registry])]

    def _stop_servers(self) -> None:
        if self.registry is not None:
            self.registry.stop()
        self.redis.stop()
        self.kafka.stop()

    def _adopt(self, state: StackState) -> None:
        """Build the servers that a state describes; those with a process are already running."""
        self._state = state
        surroundings = Surroundings(
            tied_to=state.tied_to.identity() if state.tied_to else None,
            boot_deadline_s=self.spec.boot_deadline_s,
            on_change=self._save,
        )
        nodes = [
            Node(one.node_id, one.port, one.controller_port, one.relayed_port, one.relay_port) for one in state.kafka
        ]
        brokers = []
        for node, known in zip(nodes, state.kafka, strict=True):
            broker = KafkaBroker(
                node,
                nodes,
                folder=self.data_dir / f"kafka-{node.node_id}",
                cluster_id=state.cluster_id,
                heap_mb=state.kafka_heap_mb,
                runtime=self._runtime,
                surroundings=surroundings,
            )
            broker.process.identity = known.process.identity() if known.process else None
            brokers.append(broker)
        self.kafka = KafkaCluster(brokers)
        self.redis = RedisServer(
            port=state.redis.port,
            folder=self.data_dir / "redis",
            locate=lambda: existing("redis-server"),
            surroundings=surroundings,
        )
        self.redis.process.identity = state.redis.process.identity() if state.redis.process else None
        self.registry = None
        if state.registry is not None:
            self.registry = RegistryServer(
                port=state.registry.port,
                folder=self.data_dir / "registry",
                runtime=self._registry_runtime,
                surroundings=surroundings,
            )
            known_process = state.registry.process
            self.registry.process.identity = known_process.identity() if known_process else None

    def _refresh(self) -> None:
        """Learn of servers that another process restarted since."""
        on_disk = read_state(self.data_dir)
        if on_disk is None or self._state is None or on_disk.run_id != self._state.run_id:
            return
        known = [*(node.process for node in on_disk.kafka), on_disk.redis.process]
        if on_disk.registry is not None:
            known.append(on_disk.registry.process)
        for server, process in zip(self._servers(), known, strict=True):
            server.process.identity = process.identity() if process else None

    def _save(self) -> None:
        # Nodes launch and stop in parallel: one of them writes at a time, each what is true then.
        with self._writing:
            if self._state is None:
                return
            kafka = [
                known.model_copy(update={"process": ProcessState.of(broker.process.identity)})
                for known, broker in zip(self._state.kafka, self.kafka.brokers, strict=True)
            ]
            redis = self._state.redis.model_copy(update={"process": ProcessState.of(self.redis.process.identity)})
            registry = self._state.registry
            if registry is not None and self.registry is not None:
                now = ProcessState.of(self.registry.process.identity)
                registry = registry.model_copy(update={"process": now})
            self._state = self._state.model_copy(update={"kafka": kafka, "redis": redis, "registry": registry})
            on_disk = read_state(self.data_dir)
            if on_disk is not None and on_disk.run_id == self._state.run_id:
                write_state(self.data_dir, self._state)

    def _runtime(self) -> tuple[Path, list[Path]]:
        jars = cached_jars() or prepare_jars(existing("mvn"), progress=self._progress)
        return (self._tools.java if self._tools else existing("java")), jars

    def _registry_runtime(self) -> tuple[Path, Path]:
        runner = cached_runner() or prepare_runner(existing("mvn"), progress=self._progress)
        return (self._tools.java if self._tools else existing("java")), runner

    def _versions(self) -> dict[str, str]:
        found = {"kafka": KAFKA_VERSION, "redis": server_version(existing("redis-server"))}
        return found | ({"registry": APICURIO_VERSION} if self.spec.registry else {})
