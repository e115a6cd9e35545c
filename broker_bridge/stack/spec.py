"""What a local stack shall be, and what one is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from broker_bridge.errors import UsageError

Engine = Literal["auto", "native", "docker"]
HEAP_MB_ALONE = 512
HEAP_MB_OF_THREE = 288


@dataclass(frozen=True, kw_only=True)
class StackSpec:
    """The wish. Ports left out are free ones; with three brokers `kafka_port` is the first of three in a row.

    `tie_to_parent` ends the servers when this process ends, however it ends. `install` allows `apt-get` to bring
    missing programs when run as root. `registry` adds a schema registry. `relay_ports`, one a node, gives each node a
    second listener that is advertised at that port of loopback: for clients that come through a relay there. Raises
    UsageError when the values do not make sense together.
    """

    data_dir: Path = Path(".bridge/stack")
    brokers: int = 1
    kafka_port: int | None = None
    redis_port: int | None = None
    registry: bool = False
    registry_port: int | None = None
    kafka_heap_mb: int | None = None
    engine: Engine = "auto"
    tie_to_parent: bool = False
    install: bool = False
    boot_deadline_s: float = 90.0
    compose_file: Path | None = None
    relay_ports: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.brokers not in (1, 3):
            raise UsageError(f"a stack has 1 or 3 Kafka nodes, not {self.brokers}", where="brokers")
        if self.relay_ports and len(self.relay_ports) != self.brokers:
            raise UsageError(f"{self.brokers} node(s) need as many relay ports", where="relay_ports")
        if self.kafka_heap_mb is not None and self.kafka_heap_mb < 192:
            raise UsageError(f"Kafka does not live on {self.kafka_heap_mb} MB", where="kafka_heap_mb", remedy="≥ 192")
        wanted = {"kafka_port": self.kafka_port, "redis_port": self.redis_port, "registry_port": self.registry_port}
        for name, port in wanted.items():
            if port is not None and not 1 <= port <= 65_535 - self.brokers:
                raise UsageError(f"{port} is not a port", where=name)
        if self.registry_port is not None and not self.registry:
            raise UsageError("there is no registry to give that port", where="registry_port", remedy="--registry")
        self._check_shared_ports()
        if "," in str(self.folder) or "\n" in str(self.folder):
            raise UsageError("Kafka splits folder names at commas", where=str(self.folder), remedy="choose another")
        if self.registry and ";" in str(self.folder):
            raise UsageError("the registry splits folder names at ;", where=str(self.folder), remedy="choose another")

    def _check_shared_ports(self) -> None:
        taken = dict.fromkeys(self.fixed_kafka_ports(), "Kafka")
        for name, port in (("Redis", self.redis_port), ("Registry", self.registry_port)):
            if port is not None and taken.setdefault(port, name) != name:
                raise UsageError(f"{taken[port]} and {name} cannot share port {port}", where=f"{name.lower()}_port")

    @property
    def folder(self) -> Path:
        """The data folder, absolute: servers run elsewhere."""
        return self.data_dir.expanduser().absolute()

    @property
    def heap_mb(self) -> int:
        return self.kafka_heap_mb or (HEAP_MB_ALONE if self.brokers == 1 else HEAP_MB_OF_THREE)

    def fixed_kafka_ports(self) -> list[int]:
        return [] if self.kafka_port is None else [self.kafka_port + index for index in range(self.brokers)]


@dataclass(frozen=True)
class ServerStatus:
    """One server: is its process there, and does it answer?"""

    name: str
    port: int
    pid: int | None
    alive: bool
    answers: bool
    log: str


@dataclass(frozen=True)
class StackStatus:
    """The stack as it is now. `state` is running (all answer), degraded (some do) or stopped."""

    state: Literal["running", "degraded", "stopped"]
    data_dir: str
    engine: str | None = None
    bootstrap: str | None = None
    redis_url: str | None = None
    registry_url: str | None = None
    tied_to_pid: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    servers: list[ServerStatus] = field(default_factory=list)
