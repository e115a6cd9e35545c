"""Calls of a registry's clients, without HTTP, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from broker_bridge.contracts.registry_api import RegistryApi
from broker_bridge.contracts.registry_values import Request
from broker_bridge.contracts.served_folder import ServedFolder


class Client:
    """Calls the API as a client would, without HTTP."""

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.folder = folder
        self.api = RegistryApi(ServedFolder(folder), read_only=read_only)

    def __call__(self, method: str, path: str, body: Any = None, **query: str) -> tuple[int, Any]:
        parts = tuple(part for part in path.split("/") if part)
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        reply = self.api.answer(Request(method, parts, query, raw))
        json.dumps(reply.body)
        return reply.status, reply.body

    def register(self, path: str, body: Any, **query: str) -> int:
        """The id that a schema is given. The GUID beside it must name the same."""
        status, answer = self("POST", path, body, **query)
        assert (status, set(answer)) == (200, {"id", "guid"})
        assert self("GET", f"/schemas/guids/{answer['guid']}/ids") == (200, [{"context": ".", "id": answer["id"]}])
        found: int = answer["id"]
        return found

    def code(self, method: str, path: str, body: Any = None, **query: str) -> int:
        """The error code; the status must be its first three digits."""
        status, answer = self(method, path, body, **query)
        assert set(answer) == {"error_code", "message"}
        assert status == int(str(answer["error_code"])[:3])
        found: int = answer["error_code"]
        return found


def schema(value: Any, **more: Any) -> dict[str, Any]:
    return {"schema": value if isinstance(value, str) else json.dumps(value), **more}
