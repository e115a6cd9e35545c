"""The state file of a stack: what runs where, so that another process can say so and end it.

Written whole beside its place and renamed, so a reader never sees half of it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broker_bridge.errors import StackError
from broker_bridge.stack.processes import ProcessIdentity

STATE_FILE = "stack.json"
LOCK_FILE = ".lock"

Port = Field(ge=1, le=65_535)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProcessState(_Part):
    """A process by pid and start time; the second makes a recycled pid harmless."""

    pid: int = Field(ge=1)
    started: str

    @classmethod
    def of(cls, identity: ProcessIdentity | None) -> ProcessState | None:
        return None if identity is None else cls(pid=identity.pid, started=identity.started)

    def identity(self) -> ProcessIdentity:
        return ProcessIdentity(self.pid, self.started)


class KafkaNodeState(_Part):
    node_id: int
    port: int = Port
    controller_port: int = Port
    relayed_port: int | None = None
    """The listener behind the relay, and where the relay is."""
    relay_port: int | None = None
    process: ProcessState | None = None


class RedisState(_Part):
    port: int = Port
    process: ProcessState | None = None


class RegistryState(_Part):
    port: int = Port
    process: ProcessState | None = None


class StackState(_Part):
    """Everything a later command needs to know of a stack."""

    version: Literal[1] = 1
    # Drawn at each start: a process that still remembers an earlier run must not write over a later one.
    run_id: str = Field(default_factory=lambda: uuid.uuid4().hex)
    engine: Literal["native", "docker"]
    cluster_id: str
    kafka_heap_mb: int = Field(ge=64)
    kafka: list[KafkaNodeState] = Field(min_length=1)
    redis: RedisState
    registry: RegistryState | None = None
    tied_to: ProcessState | None = None
    compose_file: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)

    def living(self) -> list[str]:
        """The servers whose processes are there, by name and pid."""
        named = [(f"Kafka node {node.node_id}", node.process) for node in self.kafka]
        named.append(("Redis", self.redis.process))
        if self.registry is not None:
            named.append(("Registry", self.registry.process))
        return [f"{name} (pid {one.pid})" for name, one in named if one is not None and one.identity().is_alive]


def read_state(data_dir: Path) -> StackState | None:
    """The stack of this folder, or None when there never was one. Raises StackError when the file is damaged."""
    path = data_dir / STATE_FILE
    try:
        return StackState.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"]) or "the whole file"
        raise StackError(
            f"the state file is damaged ({place}: {first['msg']})",
            where=str(path),
            remedy=f"see whether servers of this stack still run (pgrep -af 'redis-server|{data_dir}'), end those, "
            "then remove the file; the data beside it stays good",
        ) from error
    except OSError as error:
        remedy = "check its permissions, or name another folder with --data-dir"
        raise StackError(f"cannot be read: {error.strerror or error}", where=str(path), remedy=remedy) from error


def write_state(data_dir: Path, state: StackState) -> None:
    """Replace the state file in one step."""
    path = data_dir / STATE_FILE
    scratch = path.with_suffix(".json.new")
    with scratch.open("w", encoding="utf-8") as handle:
        json.dump(state.model_dump(mode="json"), handle, indent=1)
        handle.write("\n")
        handle.flush()
        os.fsync(handle.fileno())
    scratch.replace(path)


def remove_data(data_dir: Path) -> None:
    """Remove what a stack wrote, and the folder if nothing else is in it. Raises StackError.

    By name, not the whole folder: `--data-dir .` must not cost anyone their work.
    """
    try:
        patterns = ("kafka-[0-9]*", "redis", "redis.log*", "registry", "registry.log*", STATE_FILE + "*", LOCK_FILE)
        for pattern in patterns:
            for found in data_dir.glob(pattern):
                if found.is_dir() and not found.is_symlink():
                    shutil.rmtree(found)
                else:
                    found.unlink(missing_ok=True)
        if data_dir.is_dir() and not any(data_dir.iterdir()):
            data_dir.rmdir()
    except OSError as error:
        detail = f"cannot be removed: {error.strerror or error}"
        raise StackError(detail, where=str(error.filename or data_dir), remedy="remove it by hand") from error


@contextmanager
def exclusive(data_dir: Path) -> Iterator[None]:
    """Make the folder and hold it: one start or stop at a time. Raises StackError when another one is at work."""
    remedy = "make it writable, or name another folder with --data-dir"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        handle = (data_dir / LOCK_FILE).open("a")
    except OSError as error:
        detail = f"the data folder cannot be written: {error.strerror or error}"
        raise StackError(detail, where=str(data_dir), remedy=remedy) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            detail = "another stack command is at work in this folder"
            raise StackError(detail, where=str(data_dir), remedy="wait until it is done") from error
        yield
