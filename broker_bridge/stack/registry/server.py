"""The schema registry of a local stack: keeps what it has on disk, listens on loopback only."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from broker_bridge.errors import StackError
from broker_bridge.stack.server import Server, Surroundings

API_PATH: Final = "/apis/ccompat/v7"
"""Where the Confluent API is."""
ANSWER_TIMEOUT_S: Final = 2.0
HEAP_MB: Final = 192
FIRST_LEVEL: Final = "BACKWARD"
"""Apicurio starts with NONE; Confluent's registry, and everybody's expectation, is BACKWARD."""

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
        return f"http://127.0.0.1:{self.port}{API_PATH}"

    @property
    def instance(self) -> str:
        """How this very server calls itself, so that a stranger's on its port is not taken for it."""
        return f"broker_bridge {self.folder}"

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def command(self) -> Sequence[str]:
        java, runner = self._runtime()
        settings = {
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": str(self.port),
            "apicurio.app.name": self.instance,
            "apicurio.datasource.url": f"jdbc:h2:file:{self.folder / 'schemas'}",
            "apicurio.datasource.jdbc.initial-size": "2",
            "apicurio.datasource.jdbc.min-size": "2",
            "apicurio.ccompat.use-canonical-hash": "true",
        }
        return [
            *(str(java), *JAVA_OPTIONS),
            *(f"-D{name}={value}" for name, value in settings.items()),
            *("-jar", str(runner)),
        ]

    def answers(self) -> bool:
        """It is ready, and it is ours."""
        found = self._call("GET", "/health/ready")
        if found is None or found.get("status") != "UP":
            return False
        info = self._call("GET", "/apis/registry/v3/system/info")
        return info is not None and info.get("name") == self.instance

    def wait_ready(self) -> None:
        """Until it answers with the usual rule for new versions. Raises StackError."""
        super().wait_ready()
        marker = self.folder / "level-set"
        if marker.exists():  # later starts keep what somebody may have chosen
            return
        answer = self._call("PUT", f"{API_PATH}/config", {"compatibility": FIRST_LEVEL})
        if answer is None:
            raise StackError(f"the registry does not take {FIRST_LEVEL} as its level", where=self.url)
        marker.touch()

    def _call(self, method: str, path: str, body: object = None) -> dict[str, Any] | None:
        """The object it answers with status 200, None for everything else."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_TIMEOUT_S)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            response = connection.getresponse()
            found = json.loads(response.read(100_000))
            return found if response.status == 200 and isinstance(found, dict) else None
        except (OSError, ValueError, http.client.HTTPException):
            return None
        finally:
            connection.close()
