"""The private stack of chaos runs: Kafka and Redis behind relays that can be told to misbehave, a second Redis, and a
small disk where that is the fault."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from broker_bridge.chaos.tcp_proxy import TcpProxy
from broker_bridge.errors import StackError
from broker_bridge.stack import LocalStack, StackSpec
from broker_bridge.stack.kafka.cluster import KafkaBroker
from broker_bridge.stack.ports import free_port
from broker_bridge.stack.prerequisites import existing
from broker_bridge.stack.processes import this_process, wait_until
from broker_bridge.stack.redis_server import RedisServer, call
from broker_bridge.stack.server import Server, Surroundings

REPLICA_WITHIN_S = 15.0
SMALL_DISK_MB = 400


class Servers:
    """Start with ``with``. Clients under test go by ``relayed_bootstrap`` and ``redis_url``; the harness itself by
    ``bootstrap``, which no relay fault touches."""

    def __init__(
        self,
        folder: Path,
        *,
        brokers: int = 1,
        small_disk: bool = False,
        install: bool = False,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.small_disk = small_disk
        ports: set[int] = set()
        while len(ports) < brokers + 2:
            ports.add(free_port(avoid=frozenset(ports)))
        redis_relay, self._link_port, *kafka_relays = ports
        spec = StackSpec(
            data_dir=self.stack_folder, brokers=brokers, tie_to_parent=True, install=install,
            relay_ports=tuple(kafka_relays), engine="native",
        )  # fmt: skip
        self.stack = LocalStack(spec, progress=progress)
        self.kafka_relays = [TcpProxy(port=port) for port in kafka_relays]
        self.redis_relay = TcpProxy(port=redis_relay)
        self.replica: RedisServer | None = None
        self.replica_link: TcpProxy | None = None
        self.primary_port = 0

    @property
    def stack_folder(self) -> Path:
        """Where the servers keep their data."""
        return self.folder / "servers"

    @property
    def brokers(self) -> list[KafkaBroker]:
        """Kafka's nodes."""
        return self.stack.kafka.brokers

    @property
    def bootstrap(self) -> str:
        """Kafka, by no relay."""
        return self.stack.bootstrap

    @property
    def relayed_bootstrap(self) -> str:
        """Kafka, by the relays."""
        return self.stack.kafka.relayed_bootstrap

    @property
    def swallowed_bytes(self) -> int:
        """What the relays have swallowed so far."""
        return sum(relay.passed.swallowed_bytes for relay in (*self.kafka_relays, self.redis_relay))

    @property
    def redis_url(self) -> str:
        """Whichever Redis is the primary, by the relay."""
        return f"redis://127.0.0.1:{self.redis_relay.port}/0"

    def __enter__(self) -> Self:
        self.stack_folder.mkdir(parents=True, exist_ok=True)
        if self.small_disk:
            mount_small_disk(self.stack_folder)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        self.stack.start()
        for relay, broker in zip(self.kafka_relays, self.brokers, strict=True):
            relay.target = ("127.0.0.1", broker.node.relayed_port or 0)
            relay.start()
        self.primary_port = self.stack.redis.port
        self.redis_relay.target = ("127.0.0.1", self.primary_port)
        self.redis_relay.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End everything and give the disk back."""
        self.drop_replica()
        for relay in (*self.kafka_relays, self.redis_relay):
            relay.stop()
        self.stack.stop()
        if self.small_disk:
            unmount(self.stack_folder)
        shutil.rmtree(self.stack_folder, ignore_errors=True)

    def mend(self) -> None:
        """Every server up and answering, every relay plain, the first Redis the primary: for the next experiment."""
        for relay in (*self.kafka_relays, self.redis_relay):
            relay.heal()
        for server in (*self.brokers, self.stack.redis):
            thaw(server)
        down = [broker for broker in self.brokers if not broker.is_running]
        for broker in down:
            broker.launch()
        for broker in down:
            broker.wait_ready()
        if not self.stack.redis.is_running:
            self.stack.redis.start()
        if self.primary_port != self.stack.redis.port:
            self.promote(self.stack.redis.port)
        self.drop_replica()
        self.redis("CONFIG SET maxmemory 0")

    # --- Redis ---------------------------------------------------------------------------------------------

    def redis(self, command: str, *, port: int | None = None) -> str:
        """One command to the primary (or the Redis at ``port``), past the relay. Raises ``StackError``."""
        answer = call(port or self.primary_port, command).decode(errors="replace")
        if not answer or answer.startswith("-"):
            raise StackError(f"Redis answers {answer.strip()[:200]!r} to {command!r}")
        return answer

    def add_replica(self) -> None:
        """A second Redis that follows the first by a relay of its own, and is in step when this returns."""
        self.replica_link = TcpProxy(port=self._link_port, target=("127.0.0.1", self.stack.redis.port)).start()
        surroundings = Surroundings(tied_to=this_process(), boot_deadline_s=30.0, on_change=lambda: None)
        folder = self.stack_folder / "redis-replica"
        self.replica = RedisServer(
            port=free_port(), folder=folder, locate=lambda: existing("redis-server"), surroundings=surroundings
        )
        self.replica.start()
        self.redis("CONFIG SET repl-diskless-sync-delay 0")
        self.redis(f"REPLICAOF 127.0.0.1 {self._link_port}", port=self.replica.port)
        replica = self.replica

        def in_step() -> bool:
            return "master_link_status:up" in self.redis("INFO replication", port=replica.port)

        if not wait_until(in_step, REPLICA_WITHIN_S):
            raise StackError("the Redis replica does not follow", where=str(folder))

    def promote(self, port: int) -> None:
        """Make the Redis at ``port`` the primary and lead clients to it."""
        self.redis("REPLICAOF NO ONE", port=port)
        self.primary_port = port
        self.redis_relay.retarget(("127.0.0.1", port))

    def follow_promoted(self) -> None:
        """The first Redis comes back, as a replica of the one that took its place."""
        first = self.stack.redis
        first.start()
        self.redis(f"REPLICAOF 127.0.0.1 {self.primary_port}", port=first.port)

        def in_step() -> bool:
            return "master_link_status:up" in self.redis("INFO replication", port=first.port)

        if not wait_until(in_step, REPLICA_WITHIN_S):
            raise StackError("the first Redis does not follow the promoted one")

    def drop_replica(self) -> None:
        """End the second Redis and forget what it had."""
        if self.replica is not None:
            self.replica.stop()
            shutil.rmtree(self.replica.folder, ignore_errors=True)
            self.replica = None
        if self.replica_link is not None:
            self.replica_link.stop()
            self.replica_link = None


def thaw(server: Server) -> None:
    """SIGCONT, whether it is frozen or not."""
    with contextlib.suppress(StackError):
        server.kill(signal.SIGCONT)


def mount_small_disk(folder: Path) -> None:
    """A file system in memory of a few hundred megabytes. Raises ``StackError`` where we may not."""
    options = ["-t", "tmpfs", "-o", f"size={SMALL_DISK_MB}m", "tmpfs"]
    done = subprocess.run(  # noqa: S603 - fixed words and our own folder
        ["/bin/mount", *options, str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StackError(
            f"a small disk cannot be mounted: {done.stderr.strip()}", where=str(folder), remedy="run as root on Linux"
        )


def unmount(folder: Path) -> None:
    """Give the small disk back; nothing to do where there is none."""
    if folder.is_mount():
        subprocess.run(  # noqa: S603 - as above
            ["/bin/umount", "--lazy", str(folder)], capture_output=True, check=False
        )
