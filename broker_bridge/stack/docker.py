"""The same stack in containers, for machines where a Docker engine answers.

Thin on purpose: `compose/compose.yaml` says what runs, this only starts, finds and ends it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from broker_bridge.errors import StackError, ToolMissingError
from broker_bridge.stack.kafka.handshake import describe_cluster
from broker_bridge.stack.prerequisites import Progress
from broker_bridge.stack.redis_server import call
from broker_bridge.stack.registry.server import is_ready, registry_url, set_first_level
from broker_bridge.stack.spec import ServerStatus, StackSpec, StackStatus
from broker_bridge.stack.state import KafkaNodeState, RedisState, RegistryState, StackState

PROBE_TIMEOUT_S = 5
COMPOSE_DEADLINE_S = 900
KAFKA_PORT = 9092
REDIS_PORT = 6379
CONTROLLER_PORT = 9093
CLUSTER_ID = "YnJva2VyLWJyaWRnZS0wMQ"
REGISTRY_PORT = 8081
SERVICES = ["kafka", "redis"]


def engine_answers() -> bool:
    """Whether a Docker engine can be reached, asked with a time limit."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    command = [docker, "info", "--format", "{{.ServerVersion}}"]
    try:
        answer = subprocess.run(  # noqa: S603 - the program just located
            command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and bool(answer.stdout.strip())


def compose_file(spec: StackSpec) -> Path:
    """`--compose-file`, or the one of the checkout this runs in. Raises StackError when there is none."""
    here = Path("compose", "compose.yaml")
    beside_package = Path(__file__).resolve().parents[2] / here
    for candidate in (spec.compose_file, here, beside_package):
        if candidate is not None and candidate.is_file():
            return candidate.absolute()
        if candidate is not None and candidate == spec.compose_file:
            break
    where = str(spec.compose_file or here)
    raise StackError("there is no compose file", where=where, remedy="name it with --compose-file")


def start(spec: StackSpec, previous: StackState | None, *, progress: Progress) -> StackState:
    """`docker compose up --wait` for Kafka, Redis and, if wanted, the registry. Raises StackError, ToolMissingError."""
    if spec.brokers != 1:
        raise StackError("the compose file has one Kafka node", remedy="use --engine native for three")
    if spec.tie_to_parent:
        raise StackError("containers do not end with this process", remedy="use --engine native")
    if not engine_answers():
        remedy = "start the engine (docker info shows why), or use --engine native"
        raise ToolMissingError("no Docker engine answers", remedy=remedy)
    ports = (spec.kafka_port or KAFKA_PORT, spec.redis_port or REDIS_PORT)
    state = StackState(
        engine="docker",
        cluster_id=previous.cluster_id if previous else CLUSTER_ID,
        kafka_heap_mb=spec.heap_mb,
        kafka=[KafkaNodeState(node_id=1, port=ports[0], controller_port=CONTROLLER_PORT)],
        redis=RedisState(port=ports[1]),
        registry=RegistryState(port=spec.registry_port or REGISTRY_PORT) if spec.registry else None,
        compose_file=str(compose_file(spec)),
    )
    services = [*SERVICES, *(["registry"] if spec.registry else [])]
    progress(f"starting {', '.join(services)} with docker compose ({state.compose_file})")
    compose(state, "up", "--detach", "--wait", *services)
    if state.registry is not None and not set_first_level(state.registry.port):
        raise StackError("the registry does not take its first level", where=registry_url(state.registry.port))
    return state


def stop(state: StackState, *, wipe: bool) -> None:
    """`docker compose down`; with `wipe` its volumes go too. Raises StackError."""
    compose(state, "down", *(["--volumes"] if wipe else []))


def status(state: StackState, data_dir: Path) -> StackStatus:
    """Ask both ports: which containers serve them is Docker's business."""
    kafka_port, redis_port = state.kafka[0].port, state.redis.port
    kafka = describe_cluster(kafka_port, timeout_s=2.0) is not None
    redis = call(redis_port, "PING").startswith(b"+PONG")
    servers = [
        ServerStatus("Kafka", kafka_port, None, kafka, kafka, "docker compose logs kafka"),
        ServerStatus("Redis", redis_port, None, redis, redis, "docker compose logs redis"),
    ]
    if state.registry is not None:
        ready = is_ready(state.registry.port)
        where = "docker compose logs registry"
        servers.append(ServerStatus("Registry", state.registry.port, None, ready, ready, where))
    answering = [server.answers for server in servers]
    return StackStatus(
        state="running" if all(answering) else "degraded" if any(answering) else "stopped",
        data_dir=str(data_dir),
        engine="docker",
        bootstrap=f"127.0.0.1:{kafka_port}",
        redis_url=f"redis://127.0.0.1:{redis_port}/0",
        registry_url=registry_url(state.registry.port) if state.registry is not None else None,
        versions=state.versions,
        servers=servers,
    )


def compose(state: StackState, *arguments: str) -> None:
    profile = ["--profile", "registry"] if state.registry is not None else []
    command = ["docker", "compose", "-f", str(state.compose_file), *profile, *arguments]
    environment = {
        **os.environ,
        "BRIDGE_KAFKA_PORT": str(state.kafka[0].port),
        "BRIDGE_REDIS_PORT": str(state.redis.port),
        "BRIDGE_KAFKA_HEAP_MB": str(state.kafka_heap_mb),
    }
    if state.registry is not None:
        environment["BRIDGE_REGISTRY_PORT"] = str(state.registry.port)
    try:
        done = subprocess.run(  # noqa: S603 - fixed words
            command, env=environment, capture_output=True, text=True, timeout=COMPOSE_DEADLINE_S, check=False
        )
    except FileNotFoundError as error:
        raise ToolMissingError("docker is not on PATH", remedy="install Docker, or use --engine native") from error
    except subprocess.TimeoutExpired as error:
        raise StackError(f"no end after {COMPOSE_DEADLINE_S} s", where=json.dumps(command)) from error
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-10:])
        remedy = "see: docker compose -f " + str(state.compose_file) + " logs"
        raise StackError(f"failed with status {done.returncode}:\n{said}", where=" ".join(command), remedy=remedy)
