"""The two services: built from their Go and Rust sources, or replaced by stand-ins, and how each is started."""

from __future__ import annotations

import json
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.child import Child, ChildError, Children
from demo.places import DEMO, ORDERS_SOURCE, PAYMENTS_SOURCE, SCHEMAS, RunFolder
from demo.settings import Settings

BUILD_WITHIN_S = 900.0
ANSWER_WITHIN_S = 20.0


@dataclass(frozen=True)
class Program:
    """A service's command, without its arguments, and what it is written in."""

    command: tuple[str, ...]
    language: str


@dataclass(frozen=True)
class Build:
    """How a service is built: both toolchains build only what has changed."""

    name: str
    tool: str
    language: str
    arguments: tuple[str, ...]
    folder: Path
    result: Path

    @property
    def command(self) -> list[str]:
        return [self.tool, *self.arguments]


BUILDS = (
    Build("orders", "go", "Go", ("build", "-o", "orders", "."), ORDERS_SOURCE, ORDERS_SOURCE / "orders"),
    Build(
        "payments",
        "cargo",
        "Rust",
        ("build", "--release", "--bin", "payments", "--target-dir", "target"),
        PAYMENTS_SOURCE,
        PAYMENTS_SOURCE / "target" / "release" / "payments",
    ),
)


def stand_in(name: str) -> Program:
    """The service of that name, written in Python."""
    return Program((sys.executable, str(DEMO / "stand_ins" / f"{name}.py")), "Python stand-in")


def missing_toolchains(locate: Callable[[str], str | None] = shutil.which) -> list[Build]:
    """The builds whose toolchain is not on PATH."""
    return [build for build in BUILDS if locate(build.tool) is None]


def start_builds(children: Children, builds: Sequence[Build], folder: RunFolder) -> list[tuple[Build, Child]]:
    """Start building, all at once."""
    environment = {"CGO_ENABLED": "0"}
    return [
        (
            build,
            children.start(
                f"{build.tool} build of {build.name}",
                build.command,
                log=folder.log(f"build-{build.name}"),
                cwd=build.folder,
                environment=environment,
                has_children=True,
            ),
        )
        for build in builds
    ]


def finish_builds(started: Sequence[tuple[Build, Child]], tick: Callable[[], None]) -> dict[str, Program]:
    """Wait for builds. Raises ``ChildError`` where one fails."""
    deadline = time.monotonic() + BUILD_WITHIN_S
    while any(child.is_running for _, child in started) and time.monotonic() < deadline:
        tick()
    for build, child in started:
        if child.wait(1.0) != 0 or not build.result.exists():
            raise child.failure("failed")
    return {build.name: Program((str(build.result),), build.language) for build, _ in started}


def start_orders(
    children: Children, program: Program, *, bootstrap: str, settings: Settings, folder: RunFolder
) -> Child:
    """The stream of orders, with everything in it that the story needs."""
    mix = settings.mix
    options = {
        "--brokers": bootstrap,
        "--schemas": SCHEMAS,
        "--manifest": folder.manifest,
        "--count": settings.count,
        "--rate": settings.rate,
        "--seed": settings.seed,
        "--deploy-v2-after": 0.5,
        "--duplicates": mix.duplicates,
        "--poison-bytes": mix.poison_bytes,
        "--poison-schema-id": mix.poison_schema_id,
        "--rejected": mix.rejected,
    }
    arguments = [text for name, value in options.items() for text in (name, str(value))]
    return children.start(
        "orders", [*program.command, "produce", *arguments], log=folder.log("orders"), out=folder.root / "orders.out"
    )


@dataclass
class Payments:
    """The payment service: one log of effects and one port, through any number of lives."""

    children: Children
    program: Program
    folder: RunFolder
    port: int
    latency_ms: int
    child: Child | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and return once it answers. Raises ``ChildError``."""
        command = [
            *self.program.command,
            "serve",
            "--listen",
            f"127.0.0.1:{self.port}",
            "--log",
            str(self.folder.effects),
        ]
        self.child = self.children.start("payments", command, log=self.folder.log("payments"))
        deadline = time.monotonic() + ANSWER_WITHIN_S
        while not self.answers():
            if not self.child.is_running:
                raise self.child.failure(f"ended with status {self.child.status} while starting")
            if time.monotonic() > deadline:
                raise self.child.failure("does not answer")
            time.sleep(0.02)
        self.behave()

    def answers(self) -> bool:
        """Whether its health page answers."""
        try:
            return _call(f"{self.url}/health", None)["status"] == "ok"
        except (OSError, ValueError):
            return False

    def kill(self) -> None:
        """SIGKILL: what it had not logged did not happen, what it had not answered is in doubt."""
        if self.child is not None:
            self.child.kill()

    def behave(self) -> None:
        """No errors, and the time that taking money takes."""
        self.switch(latency_ms=self.latency_ms, error_rate=0.0)

    def switch(self, **switches: float | bool) -> None:
        """Set its fault switches. Raises ``ChildError`` where it does not take them."""
        try:
            told = _call(f"{self.url}/control", switches)
        except (OSError, ValueError) as error:
            raise ChildError(f"payments did not take {switches}: {error}") from error
        if any(told.get(name) != value for name, value in switches.items()):
            raise ChildError(f"payments was told {switches} and has {told}")


def _call(url: str, body: dict[str, float | bool] | None) -> dict[str, object]:
    data = None if body is None else json.dumps(body).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback: no proxy has a say in it
    with opener.open(urllib.request.Request(url, data=data), timeout=5) as answer:  # noqa: S310 - our own address
        found: dict[str, object] = json.loads(answer.read())
        return found
