"""The compose file, the worker's image and its configuration, as far as they can be judged without an engine.

The compose file is read by an implementation of the Compose specification, and by `docker compose config` where that
is installed. What the image is built from is installed from exactly the files the Dockerfile copies.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from compose_spec import PyCompose

from broker_bridge.config import load_config
from broker_bridge.stack.kafka.settings import Node, server_properties
from broker_bridge.stack.registry.archive import APICURIO_VERSION
from broker_bridge.stack.registry.server import JAVA_OPTIONS, SETTINGS

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "compose" / "compose.yaml"
DOCKERFILE = ROOT / "compose" / "worker.Dockerfile"
PINNED_IMAGE = re.compile(r"[a-z0-9./-]+:\d+\.\d+\.\d+(-[a-z0-9-]+)?")


# --- compose.yaml ----------------------------------------------------------------------------------------


def interpolated(text: str) -> str:
    """The file as it is with none of its variables set."""
    filled = re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", text)
    assert "${" not in filled, "every variable has a default"
    return filled


def read_compose(text: str) -> dict[str, Any]:
    """The file as a mapping, after the specification's own checks. Raises ValueError."""
    # Docker's own word for the machine's address; the specification knows addresses only.
    composed = PyCompose.from_yaml(interpolated(text).replace("host-gateway", "172.17.0.1"))
    composed.validate()
    loaded: dict[str, Any] = yaml.safe_load(interpolated(text))
    return loaded


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = read_compose(COMPOSE.read_text())["services"]
    return found


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("healthcheck:", "helthcheck:"),
        ("restart: unless-stopped", "restart: sometimes"),
        ("condition: service_healthy", "condition: service_well"),
        ("interval: 10s", "interval: ten"),
        ('"127.0.0.1:${BRIDGE_REDIS_PORT:-6379}:6379"', '"127.0.0.1:redis:6379"'),
        ("replicas: 2", "replicas: two"),
        ("services:", "servces:"),
    ],
)
def test_the_check_notices_what_is_wrong(right: str, wrong: str) -> None:
    text = COMPOSE.read_text()
    assert right in text
    read_compose(text)
    with pytest.raises(ValueError, match=r".+"):
        read_compose(text.replace(right, wrong))


def test_docker_agrees_where_it_is_installed() -> None:
    version = subprocess.run(["sh", "-c", "docker compose version"], capture_output=True, text=True)
    if version.returncode == 0:
        command = ["docker", "compose", "-f", str(COMPOSE), "config", "--quiet"]
        checked = subprocess.run(command, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr


def test_images_are_pinned_and_servers_come_back(services: dict[str, Any]) -> None:
    assert set(services) == {"kafka", "redis", "registry", "topics", "worker"}
    for name in ("kafka", "redis", "registry"):
        assert PINNED_IMAGE.fullmatch(services[name]["image"]), name
        assert services[name]["healthcheck"]["test"]
    assert services["kafka"]["image"] == "apache/kafka:4.4.0"
    assert {name: one["restart"] for name, one in services.items()} == {
        "kafka": "unless-stopped",
        "redis": "unless-stopped",
        "registry": "unless-stopped",
        "worker": "unless-stopped",
        "topics": "no",
    }


def test_nothing_listens_beyond_this_machine(services: dict[str, Any]) -> None:
    published = [port for one in services.values() for port in one.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_volumes_are_declared_or_in_the_repository(services: dict[str, Any]) -> None:
    declared = yaml.safe_load(COMPOSE.read_text())["volumes"]
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (COMPOSE.parent / source).exists() if source.startswith(".") else source in declared, volume


def test_kafka_is_set_as_in_the_native_stack(services: dict[str, Any]) -> None:
    """One node each, so what differs is only where it listens, under which names, and what small topics cost."""
    lines = server_properties(Node(1, 9092, 19093), [Node(1, 9092, 19093)], Path("/data")).splitlines()
    native = dict(line.split("=", 1) for line in lines)
    composed = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in services["kafka"]["environment"].items()
        if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS"
    }
    shared = {name for name in composed if name in native} - {
        "listeners",
        "advertised.listeners",
        "listener.security.protocol.map",
        "inter.broker.listener.name",
        "controller.quorum.voters",
        "log.dirs",
    }
    assert {"auto.create.topics.enable", "min.insync.replicas", "offsets.topic.replication.factor"} <= shared
    assert {name: composed[name] for name in shared} == {name: native[name] for name in shared}


def test_kafkas_listeners_are_named_consistently(services: dict[str, Any]) -> None:
    """Names are free, so they are the file's own; Kafka refuses to start where they do not fit together."""
    environment = services["kafka"]["environment"]

    def names(setting: str) -> set[str]:
        return {one.split(":")[0] for one in environment[setting].split(",")}

    doors = names("KAFKA_ADVERTISED_LISTENERS")
    controller = environment["KAFKA_CONTROLLER_LISTENER_NAMES"]
    assert environment["KAFKA_INTER_BROKER_LISTENER_NAME"] in doors
    assert controller not in doors
    assert names("KAFKA_LISTENERS") == names("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP") == doors | {controller}


def test_redis_is_set_as_in_the_native_stack(services: dict[str, Any]) -> None:
    command = services["redis"]["command"]
    settings = dict(zip(command[1::2], command[2::2], strict=True))
    assert settings == {
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        "--save": "",
        "--maxmemory-policy": "noeviction",
    }


def test_the_registry_is_set_as_in_the_native_stack_and_starts_only_when_wanted(services: dict[str, Any]) -> None:
    registry = services["registry"]
    assert registry["image"].endswith(f":{APICURIO_VERSION}")
    assert registry["profiles"] == ["registry"]
    environment = dict(registry["environment"])
    assert environment.pop("JAVA_OPTS_APPEND").split() == list(JAVA_OPTIONS)
    assert environment == {re.sub("[^A-Z]", "_", name.upper()): value for name, value in SETTINGS.items()}


def test_the_workers_wait_for_what_they_need_and_get_time_to_drain(services: dict[str, Any]) -> None:
    worker = services["worker"]
    assert {name: one["condition"] for name, one in worker["depends_on"].items()} == {
        "kafka": "service_healthy",
        "redis": "service_healthy",
        "topics": "service_completed_successfully",
    }
    config = load_config(COMPOSE.with_name("bridge.toml"), {})
    longest_drain_s = max(route.shutdown.drain_ms for route in config.routes) / 1000
    assert int(worker["stop_grace_period"].removesuffix("s")) > longest_drain_s


def test_the_workers_configuration_names_the_services(services: dict[str, Any]) -> None:
    config = load_config(COMPOSE.with_name("bridge.toml"), {})
    assert config.kafka.bootstrap in services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert config.redis.url.get_secret_value() == "redis://redis:6379/0"
    subjects = {part.subject for route in config.routes for part in (route.contract, route.output) if part}
    assert all((ROOT / "schemas" / subject).is_dir() for subject in subjects)


# --- worker.Dockerfile -----------------------------------------------------------------------------------


class Instruction(NamedTuple):
    name: str
    value: str


def read_dockerfile(text: str) -> list[Instruction]:
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    lines = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [Instruction(line[0].upper(), line[1].strip()) for line in lines]


def values(instructions: list[Instruction], name: str) -> list[str]:
    return [one.value for one in instructions if one.name == name]


def copied_from_context(instructions: list[Instruction]) -> list[str]:
    return [source for value in values(instructions, "COPY") if "--from" not in value for source in value.split()[:-1]]


def complaints(text: str, root: Path) -> list[str]:
    """What is wrong with a worker's Dockerfile."""
    instructions = read_dockerfile(text)
    arguments = dict(value.split("=", 1) for value in values(instructions, "ARG"))
    stages = [value.split() for value in values(instructions, "FROM")]
    last = instructions[max(index for index, one in enumerate(instructions) if one.name == "FROM") :]
    found = []
    bases = [re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], stage[0]) for stage in stages]
    found += [f"base is not pinned: {base}" for base in bases if not PINNED_IMAGE.fullmatch(base)]
    names = {stage[2] for stage in stages if len(stage) == 3}
    sources = [match for value in values(last, "COPY") for match in re.findall(r"--from=(\S+)", value)]
    found += [f"no such stage: {source}" for source in sources if source not in names]
    if len(stages) < 2 or not sources:
        found.append("build tools end up in the image")
    users = values(last, "USER")
    if not users or users[-1].split(":")[0] in ("0", "root"):
        found.append("runs as root")
    if not values(last, "HEALTHCHECK"):
        found.append("no health check")
    found += [f"not in the repository: {one}" for one in copied_from_context(instructions) if not (root / one).exists()]
    for name in ("ENTRYPOINT", "CMD"):
        if not all(value.startswith("[") and json.loads(value) for value in values(last, name)):
            found.append(f"{name} goes through a shell, which keeps SIGTERM to itself")
    return found


def test_the_image_is_built_as_it_should_be() -> None:
    assert complaints(DOCKERFILE.read_text(), ROOT) == []


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("python:3.11.13-slim-bookworm", "python:latest", "base is not pinned: python:latest"),
        ("--from=build", "--from=builder", "no such stage: builder"),
        ("USER 10001:10001", "USER root", "runs as root"),
        ("USER 10001:10001\n", "", "runs as root"),
        ("COPY broker_bridge", "COPY src", "not in the repository: src"),
        ("HEALTHCHECK --interval", "LABEL --interval", "no health check"),
        ('ENTRYPOINT ["broker-bridge"]', "ENTRYPOINT broker-bridge", "ENTRYPOINT goes through a shell"),
    ],
)
def test_the_check_complains_of(right: str, wrong: str, complaint: str) -> None:
    text = DOCKERFILE.read_text()
    assert right in text
    assert any(one.startswith(complaint) for one in complaints(text.replace(right, wrong), ROOT))


def test_what_the_image_runs_exists() -> None:
    instructions = read_dockerfile(DOCKERFILE.read_text())
    command = json.loads(values(instructions, "ENTRYPOINT")[0]) + json.loads(values(instructions, "CMD")[0])
    assert command == ["broker-bridge", "worker", "run", "--config", "/etc/broker-bridge/bridge.toml"]
    shown = subprocess.run([*command[:3], "--help"], capture_output=True, text=True)
    assert shown.returncode == 0
    assert "--config" in shown.stdout


def test_the_health_check_asks_what_the_worker_answers() -> None:
    instructions = read_dockerfile(DOCKERFILE.read_text())
    environment = dict(re.findall(r"(\w+)=(\S+)", values(instructions, "ENV")[0]))
    listen = environment["BROKER_BRIDGE_HEALTH__LISTEN"]
    config = load_config(COMPOSE.with_name("bridge.toml"), {"BROKER_BRIDGE_HEALTH__LISTEN": listen})
    assert config.health.listen == listen
    probe = json.loads(values(instructions, "HEALTHCHECK")[0].split("CMD", 1)[1])
    asked = re.search(r"http://127\.0\.0\.1:(\d+)(/[\w/]+)", probe[-1])
    assert asked is not None
    assert asked[1] == listen.split(":")[1] == values(instructions, "EXPOSE")[0]
    assert f'"{asked[2]}"' in (ROOT / "broker_bridge" / "worker" / "health.py").read_text()
    compile(probe[-1], "HEALTHCHECK", "exec")


def test_the_copied_files_are_enough_for_the_whole_package(tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    for source in copied_from_context(read_dockerfile(DOCKERFILE.read_text())):
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, context / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, context / source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    built = subprocess.run([*command, "-w", str(tmp_path), str(context)], capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    data = {path.relative_to(ROOT).as_posix() for path in (ROOT / "broker_bridge").rglob("*") if path.suffix != ".pyc"}
    files = {name for name in data if (ROOT / name).is_file() and "__pycache__" not in name}
    assert "broker_bridge/stack/kafka/pom.xml" in files
    assert files - packed == set(), "files of the package that the wheel lacks"


def test_the_builder_is_sent_what_it_copies_and_little_else() -> None:
    rules = DOCKERFILE.with_name("worker.Dockerfile.dockerignore").read_text().splitlines()
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    assert "*" in rules
    assert kept == set(copied_from_context(read_dockerfile(DOCKERFILE.read_text())))


def test_constraints_can_be_used_anywhere() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[\w.+!-]+", line) for line in pins), "pip takes only pins as constraints"
