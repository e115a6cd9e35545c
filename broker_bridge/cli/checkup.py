"""The checks behind ``broker-bridge doctor``. Each answers with findings and never raises for what it is to find."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import platform
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from broker_bridge.bootstrap import open_store, open_transport
from broker_bridge.cli.output import read_config
from broker_bridge.config import BridgeConfig, HttpTarget, PythonTarget, RouteConfig, TopicTarget, config_warnings
from broker_bridge.contracts.directory import SchemaDirectory
from broker_bridge.errors import BridgeError, ConfigError, StoreError, ToolMissingError, TransportError
from broker_bridge.replay.operations_log import topic_problems
from broker_bridge.stack import prerequisites
from broker_bridge.transport.base import TopicAdmin

Status = Literal["ok", "warn", "fail"]

SERVER_DEADLINE_S: Final = 10.0
TARGET_DEADLINE_S: Final = 3.0
CREATE_LANES: Final = "create the lanes with: broker-bridge worker topics"
CREATE_ALL: Final = "create it with an explicit partition count, or with: broker-bridge worker topics --create N"
DEMO_TOOLS: Final = {
    "go": "builds the Go service of the demo; install Go 1.24 or later from https://go.dev/dl",
    "cargo": "builds the Rust service of the demo; install Rust from https://rustup.rs",
}


@dataclass(frozen=True)
class Finding:
    """What one check found. ``warn`` works, but not as well as it could; ``fail`` must be mended."""

    check: str
    status: Status
    detail: str
    remedy: str = ""


async def check_up(config_path: Path, *, config_needed: bool) -> list[Finding]:
    """Everything, in the order in which it is to be mended. Without a configuration only this machine is looked at."""
    found = [python_finding()]
    config, told = read_findings(config_path, config_needed=config_needed)
    found += told
    if config is not None:
        found += schema_findings(config)
        checks: list[Callable[[], Awaitable[list[Finding]]]] = [
            lambda: kafka_findings(config),
            lambda: redis_findings(config),
            lambda: target_findings(config),
        ]
        for findings in await asyncio.gather(*(check() for check in checks)):
            found += findings
    found += await asyncio.to_thread(lambda: list(tool_findings()))
    return found


def python_finding() -> Finding:
    """The interpreter, and whether the faster event loop is there."""
    version = platform.python_version()
    try:
        loop = f"uvloop {importlib.metadata.version('uvloop')}"
    except importlib.metadata.PackageNotFoundError:
        remedy = 'faster with: pip install "broker-bridge[speed]"'
        return Finding("python", "warn", f"Python {version} without uvloop", remedy)
    return Finding("python", "ok", f"Python {version}, {loop}")


def read_findings(path: Path, *, config_needed: bool) -> tuple[BridgeConfig | None, list[Finding]]:
    """The configuration, if it is sound, and what is to be said of it."""
    if not config_needed and not path.exists():
        detail = f"there is no {path} here, so servers, topics and targets were not checked"
        return None, [Finding("config", "warn", detail, "name a configuration with --config PATH")]
    try:
        config = read_config(path)
    except ConfigError as error:
        return None, [failure("config", error)]
    names = ", ".join(route.name for route in config.routes) or "none"
    warnings = [Finding("config", "warn", warning) for warning in config_warnings(config)]
    return config, [Finding("config", "ok", f"{path}: routes {names}"), *warnings]


def schema_findings(config: BridgeConfig) -> list[Finding]:
    """The schemas, in the folder or at the registry, every contract that routes name, and the upcasters."""
    from broker_bridge.bootstrap import open_codec

    try:
        codec = open_codec(config)
    except BridgeError as error:
        return [failure("schemas", error)]
    found: list[Finding] = []
    for route in config.routes:
        for topic, section in ((route.topic, route.contract), (route.output and route.output.topic, route.output)):
            if section is None:
                continue
            try:
                codec.contract_for(topic or "", section.subject, section.version)
            except BridgeError as error:
                found.append(failure("schemas", error, about=f"route {route.name}"))
    if found:
        return found
    if isinstance(codec.source, SchemaDirectory):
        return [Finding("schemas", "ok", f"{len(codec.source.subjects())} subjects in {config.bridge.schemas}")]
    return [Finding("schemas", "ok", f"every route's contracts are at {', '.join(config.registry.urls)}")]


async def kafka_findings(config: BridgeConfig) -> list[Finding]:
    """Whether brokers answer, and the topics of every route."""
    try:
        async with _admin(config) as admin, asyncio.timeout(SERVER_DEADLINE_S):
            count = len(await admin.topics())
            found = [Finding("kafka", "ok", f"{config.kafka.bootstrap} answers, {count} topics")]
            for route in config.routes:
                found += await topic_findings(admin, route)
            return [*found, *await operations_findings(admin, config.operations.topic)]
    except TimeoutError:
        detail = f"{config.kafka.bootstrap} did not answer within {SERVER_DEADLINE_S:.0f} s"
        return [Finding("kafka", "fail", detail, TransportError.default_remedy)]
    except BridgeError as error:
        return [failure("kafka", error)]


@asynccontextmanager
async def _admin(config: BridgeConfig) -> AsyncIterator[TopicAdmin]:
    admin = open_transport(config).admin()
    try:
        async with asyncio.timeout(SERVER_DEADLINE_S):
            await admin.start()
        yield admin
    finally:
        await admin.stop()


async def topic_findings(admin: TopicAdmin, route: RouteConfig) -> list[Finding]:
    """The route's topics: there, with as many partitions as the source where lanes depend on it, and safe."""
    lanes = route.lane_names.all(route.retry.lanes_ms)
    written = [route.output.topic] if route.output else []
    if isinstance(route.target, TopicTarget):
        written.append(route.target.topic)
    partitions = await admin.describe([route.topic, *lanes, *written])
    check = f"topics {route.name}"
    missing = [topic for topic, count in partitions.items() if count is None]
    found = [
        Finding(check, "fail", f"topic {topic} does not exist", CREATE_LANES if topic in lanes else CREATE_ALL)
        for topic in missing
    ]
    source = partitions[route.topic]
    for lane in lanes:
        count = partitions[lane]
        if source is not None and count is not None and count != source:
            detail = f"{lane} has {count} partitions, {route.topic} has {source}: a message keeps its partition number"
            found.append(Finding(check, "fail", detail, f"give both {max(count, source)} partitions"))
    present = [topic for topic, count in partitions.items() if count is not None]
    found += [Finding(check, "warn", unsafe) for unsafe in await admin.unsafe_settings(present)]
    return found or [Finding(check, "ok", f"{len(present)} topics, {source} partitions each in source and lanes")]


async def operations_findings(admin: TopicAdmin, topic: str) -> list[Finding]:
    """Whether what operators do is kept. A topic that is not there is no fault: the first action creates it."""
    try:
        problems = await topic_problems(admin, topic)
        exists = (await admin.describe([topic]))[topic] is not None
    except BridgeError as error:
        return [Finding("operations", "warn", f"{topic} cannot be looked at: {error.detail}", error.remedy)]
    if problems:
        return [Finding("operations", "warn", problem) for problem in problems]
    return [Finding("operations", "ok", f"{topic} keeps them" if exists else f"{topic} comes with the first action")]


async def redis_findings(config: BridgeConfig) -> list[Finding]:
    """Whether Redis answers and keeps what it is given."""
    store = open_store(config)
    try:
        async with asyncio.timeout(SERVER_DEADLINE_S):
            await store.start()
    except TimeoutError:
        detail = f"{config.redis.url} did not answer within {SERVER_DEADLINE_S:.0f} s"
        return [Finding("redis", "fail", detail, StoreError.default_remedy)]
    except BridgeError as error:
        return [failure("redis", error)]
    finally:
        await store.stop()
    return [Finding("redis", "ok", f"{config.redis.url} answers and does not evict")]


async def target_findings(config: BridgeConfig) -> list[Finding]:
    """Whether each route's target is there. One that is down now is a warning: the worker waits for it."""
    found: list[Finding] = []
    for route in config.routes:
        check = f"target {route.name}"
        if isinstance(route.target, HttpTarget):
            found.append(await _http_finding(check, route.target))
        elif isinstance(route.target, PythonTarget):
            found.append(_handler_finding(check, route.target))
    return found


async def _http_finding(check: str, target: HttpTarget) -> Finding:
    parts = urlsplit(target.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    place = f"{parts.hostname}:{port}"
    try:
        async with asyncio.timeout(TARGET_DEADLINE_S):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except (OSError, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or "no answer in time"
        return Finding(check, "warn", f"{place} cannot be reached: {reason}", "start the service, or mend url")
    writer.close()
    return Finding(check, "ok", f"{place} accepts connections")


def _handler_finding(check: str, target: PythonTarget) -> Finding:
    module = target.handler.partition(":")[0]
    try:
        present = importlib.util.find_spec(module) is not None
    except ImportError:
        present = False
    if not present:
        return Finding(check, "fail", f"module {module} is not installed here", "install it, or add it to PYTHONPATH")
    return Finding(check, "ok", f"module {module} is installed")


def tool_findings() -> Iterator[Finding]:
    """Programs that only the local stack and the demo need: a warning where they are missing."""
    for tool in prerequisites.PACKAGES:
        try:
            path = prerequisites.existing(tool)
            version = f", version {prerequisites.check_java(path)}" if tool == "java" else ""
            yield Finding(tool, "ok", f"{path}{version}")
        except ToolMissingError as error:
            yield Finding(tool, "warn", f"{error.detail}; the local stack needs it", error.remedy)
    for tool, purpose in DEMO_TOOLS.items():
        found = shutil.which(tool)
        yield Finding(tool, "ok", found) if found else Finding(tool, "warn", "not found on PATH", purpose)


def failure(check: str, error: BridgeError, *, about: str = "") -> Finding:
    """An error as a finding."""
    return Finding(check, "fail", ": ".join(part for part in (about, error.where, error.detail) if part), error.remedy)
