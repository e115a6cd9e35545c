"""What was fetched from a schema registry, kept on disk: a worker then starts and runs while the registry is away.

One file for each answer, written whole or not at all, with a checksum over key and content: a damaged file is told and
fetched again, never used. The checksum tells accidents, not attacks: whoever may write into the folder decides what
values mean. Nothing is ever removed, for what an id stands for never changes; the folder may be deleted at any time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from broker_bridge.contracts.registry_client import RegisteredSchema
from broker_bridge.observability import names
from broker_bridge.observability.logging import get_logger

_FORMAT: Final = 1
_FIELDS: Final = {"schema_id": int, "text": str, "subject": str, "version": int, "guid": str}
log = get_logger(__name__)


class SchemaCache:
    """Answers of one registry, by a key of the caller's. Registries that differ in ``urls`` do not share files."""

    def __init__(self, folder: Path, urls: Sequence[str]) -> None:
        self.folder = folder / hashlib.sha256("\n".join(sorted(urls)).encode()).hexdigest()[:16]
        self._told: set[str] = set()

    def read(self, key: str) -> RegisteredSchema | None:
        """What was kept under the key; None where nothing was, or what is there is damaged."""
        path = self._path(key)
        try:
            found = _opened(path.read_bytes(), key)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self._tell(names.SCHEMA_CACHE_DAMAGED, path, error)
            return None
        return found

    def write(self, key: str, schema: RegisteredSchema) -> None:
        """Keep it. A folder that cannot be written to is told once; the work goes on without."""
        path = self._path(key)
        beside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                with beside.open("wb") as file:
                    file.write(_sealed(key, schema))
                    file.flush()
                    os.fsync(file.fileno())
                beside.replace(path)
            finally:
                beside.unlink(missing_ok=True)
        except OSError as error:
            self._tell(names.SCHEMA_CACHE_NOT_WRITTEN, self.folder, error)

    def _path(self, key: str) -> Path:
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"

    def _tell(self, event: str, path: Path, error: Exception) -> None:
        if (said := f"{event} {path}") not in self._told:
            self._told.add(said)
            log.warning(event, path=str(path), error=str(error))


def _sealed(key: str, schema: RegisteredSchema) -> bytes:
    fields = {name: value for name, value in dataclasses.asdict(schema).items() if name in _FIELDS}
    content = {"format": _FORMAT, "key": key, **fields}
    return json.dumps({**content, "sha256": _checksum(content)}, indent=1).encode()


def _opened(data: bytes, key: str) -> RegisteredSchema:
    """Raises ValueError where it is not what was written under that key."""
    found: Any = json.loads(data)
    if not isinstance(found, dict) or found.pop("sha256", None) != _checksum(found):
        raise ValueError("the checksum does not fit")
    if found.pop("format", None) != _FORMAT or found.pop("key", None) != key:
        raise ValueError("it is of another format, or stands for something else")
    if {name: type(value) for name, value in found.items()} != _FIELDS:
        raise ValueError("its fields are not those of a schema")
    return RegisteredSchema(**found)


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
