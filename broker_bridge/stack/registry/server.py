"""The schema registry of a local stack: keeps what it has on disk, listens on loopback only."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from broker_bridge.stack.server import Server, Surroundings

API_PATH: Final = "/apis/ccompat/v7"
"""Where the Confluent API is."""
ANSWER_TIMEOUT_S: Final = 2.0
LARGEST_ANSWER_BYTES: Final = 100_000
HEAP_MB: Final = 192
FIRST_LEVEL: Final = "BACKWARD"
"""Apicurio starts with NONE; Confluent's registry, and everybody's expectation, is BACKWARD."""

SETTINGS: Final = {
    "apicurio.datasource.jdbc.initial-size": "2",
    "apicurio.datasource.jdbc.min-size": "2",
    # The same schema in other words is the same schema, as with Confluent's registry.
    "apicurio.ccompat.use-canonical-hash": "true",
}
JAVA_OPTIONS: Final = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", f"-Xmx{HEAP_MB}m", "-Xss512k")

Runtime = Callable[[], tuple[Path, Path]]


class RegistryServer(Server):
    """`runtime` finds Java and the jar, and is asked only when the server really starts."""

    def __init__(self, *, port: int, folder: Path, runtime: Runtime, surroundings: Surroundings) -> None:
        super().__init__(name="Registry", port=port, folder=folder, surroundings=surroundings)
        self._runtime = runtime

    @property
    def url(self) -> str:
        """What clients are given as schema.registry.url."""
        return registry_url(self.port)

    @property
    def instance(self) -> str:
        """How this very server calls itself, so that a stranger's on its port is not taken for it."""
        return f"broker_bridge {self.folder}"

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def command(self) -> Sequence[str]:
        java, runner = self._runtime()
        settings = {
            **SETTINGS,
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": str(self.port),
            "apicurio.app.name": self.instance,
            # By itself H2 writes half a second late, and a crash loses what was acknowledged.
            "apicurio.datasource.url": f"jdbc:h2:file:{self.folder / 'schemas'};WRITE_DELAY=0",
        }
        return [
            *(str(java), *JAVA_OPTIONS),
            *(f"-D{name}={value}" for name, value in settings.items()),
            *("-jar", str(runner)),
        ]

    def answers(self) -> bool:
        """It is ready, and it is ours."""
        if not is_ready(self.port):
            return False
        info = call(self.port, "GET", "/apis/registry/v3/system/info")
        return info is not None and info.get("name") == self.instance

    def wait_ready(self) -> None:
        """Until it answers with the usual level for new versions. Raises StackError."""
        super().wait_ready()
        marker = self.folder / "level-set"
        if marker.exists():  # later starts keep what somebody may have chosen
            return
        if not set_first_level(self.port):
            raise self.process.failure(f"does not take {FIRST_LEVEL} as its level")
        marker.touch()


def registry_url(port: int) -> str:
    """Where the Confluent API of a registry on this machine is."""
    return f"http://127.0.0.1:{port}{API_PATH}"


def is_ready(port: int) -> bool:
    """Whether a registry there serves."""
    found = call(port, "GET", "/health/ready")
    return found is not None and found.get("status") == "UP"


def set_first_level(port: int) -> bool:
    """Give the registry the level that clients expect of a new one; whether it took it."""
    return call(port, "PUT", f"{API_PATH}/config", {"compatibility": FIRST_LEVEL}) is not None


def call(port: int, method: str, path: str, body: object = None) -> dict[str, Any] | None:
    """The object it answers with status 200, None for everything else."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_TIMEOUT_S)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"})
        response = connection.getresponse()
        found = json.loads(response.read(LARGEST_ANSWER_BYTES))
        return found if response.status == 200 and isinstance(found, dict) else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()
