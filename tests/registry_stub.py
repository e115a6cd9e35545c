"""A schema registry in memory, in a thread of its own, that can be told to misbehave, which a sound one does not.

It speaks as much of the Confluent API as the client asks, and checks no compatibility unless told to refuse.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Self
from urllib.parse import unquote

from aiohttp import web

from broker_bridge.stack.ports import free_port

Misbehaviour = Callable[[web.BaseRequest], Awaitable[web.StreamResponse | None]]
"""Answers in place of the registry; None lets the registry answer after all."""


class RegistryStub:
    """A registry at ``url``; use it with ``with``. ``requests`` is what it was asked, method and path."""

    def __init__(self, *, port: int = 0, tls: ssl.SSLContext | None = None, first_id: int = 1) -> None:
        self.port = port or free_port()
        self._tls = tls
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self.next_id = first_id
        self.schemas: dict[int, dict[str, Any]] = {}
        self.subjects: dict[str, list[int]] = {}
        self.deleted: set[str] = set()
        self.refuses: list[str] = []
        self.misbehaves: list[Misbehaviour] = []
        self.always: Misbehaviour | None = None
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []

    def add(self, subject: str, schema: object, **more: Any) -> int:
        """Register a schema without asking; ``more`` are ``references`` or a ``schemaType``."""
        text = schema if isinstance(schema, str) else json.dumps(schema)
        known = [schema_id for schema_id, entry in self.schemas.items() if entry["schema"] == text]
        schema_id = known[0] if known else self.next_id
        if not known:
            self.next_id += 1
            self.schemas[schema_id] = {"schema": text, **more}
        versions = self.subjects.setdefault(subject, [])
        if schema_id not in versions:
            versions.append(schema_id)
        return schema_id

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen at the same port each time."""
        started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=self._run, args=(started,))
        self._thread.start()
        assert started.wait(30)

    def stop(self) -> None:
        """Refuse connections, and let go of those there are."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self, started: threading.Event) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(started))

    async def _serve(self, started: threading.Event) -> None:
        runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self._tls, reuse_address=True).start()
        started.set()
        await self._stopped.wait()
        await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path_qs}")
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        wrong = self.misbehaves.pop(0) if self.misbehaves else self.always
        if wrong is not None:
            answer = await wrong(request)
            if answer is not None:
                return answer
        body = await request.json() if request.can_read_body else {}
        parts = [unquote(part) for part in request.raw_path.partition("?")[0].strip("/").split("/")]
        return self._routed(request.method, parts, body, deleted=request.query.get("deleted") == "true")

    def _routed(self, method: str, parts: list[str], body: dict[str, Any], *, deleted: bool) -> web.Response:
        match parts:
            case ["subjects"]:
                return _json([subject for subject in self.subjects if deleted or subject not in self.deleted])
            case ["schemas", "ids", number, *more]:
                found = self.schemas.get(int(number))
                if found is None:
                    return _problem(404, 40403, f"Schema {number} not found")
                return _json(self._places(int(number)) if more else found)
            case ["schemas", "guids", guid, "ids"] if any("guid" in entry for entry in self.schemas.values()):
                ids = [schema_id for schema_id, entry in self.schemas.items() if entry.get("guid") == guid]
                found = [{"context": ".", "id": schema_id} for schema_id in ids]
                return _json(found) if found else _problem(404, 40403, f"Schema {guid} not found")
            case ["compatibility", "subjects", *_]:
                return _json({"is_compatible": not self.refuses, "messages": self.refuses})
            case ["subjects", subject, "versions"] if method == "POST":
                return self._registered(subject, body["schema"])
            case ["subjects", subject, *_] if subject not in self.subjects or (subject in self.deleted and not deleted):
                return _problem(404, 40401, f"Subject '{subject}' not found.")
            case ["subjects", subject]:
                return self._lookup(subject, body["schema"])
            case ["subjects", subject, "versions"]:
                return _json(list(range(1, len(self.subjects[subject]) + 1)))
            case ["subjects", subject, "versions", version]:
                return self._version(subject, version)
        return web.Response(status=404)

    def _registered(self, subject: str, text: str) -> web.Response:
        if self.refuses:
            return _problem(409, 409, "; ".join(self.refuses))
        self.deleted.discard(subject)
        return _json({"id": self.add(subject, text)})

    def _version(self, subject: str, version: str) -> web.Response:
        ids = self.subjects[subject]
        number = len(ids) if version == "latest" else int(version)
        if not 1 <= number <= len(ids):
            return _problem(404, 40402, f"Version {number} not found.")
        schema_id = ids[number - 1]
        return _json({"subject": subject, "version": number, "id": schema_id, **self.schemas[schema_id]})

    def _lookup(self, subject: str, text: str) -> web.Response:
        for version, schema_id in enumerate(self.subjects[subject], start=1):
            if json.loads(self.schemas[schema_id]["schema"]) == json.loads(text):
                return _json({"subject": subject, "version": version, "id": schema_id, **self.schemas[schema_id]})
        return _problem(404, 40403, "Schema not found")

    def _places(self, schema_id: int) -> list[dict[str, Any]]:
        return [
            {"subject": subject, "version": version}
            for subject, ids in self.subjects.items()
            for version, one in enumerate(ids, start=1)
            if one == schema_id and subject not in self.deleted
        ]


def _json(value: object, status: int = 200) -> web.Response:
    text = json.dumps(value)
    return web.Response(text=text, status=status, content_type="application/vnd.schemaregistry.v1+json")


def _problem(status: int, code: int, message: str) -> web.Response:
    return _json({"error_code": code, "message": message}, status)


def answers(status: int, body: bytes | str = b"", **headers: str) -> Misbehaviour:
    """One answer as given; ``_`` in the names of headers stands for ``-``."""
    data = body.encode() if isinstance(body, str) else body

    async def misbehave(_: web.BaseRequest) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=data, headers=named)

    return misbehave


def drops() -> Misbehaviour:
    """The connection ends without an answer."""

    async def misbehave(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    return misbehave


def drips(body: bytes = b" " * 1_000) -> Misbehaviour:
    """An answer that comes byte by byte, for ever as far as the client is concerned."""

    async def misbehave(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-length": str(len(body))})
        await response.prepare(request)
        for byte in body:
            await response.write(bytes([byte]))
            await asyncio.sleep(0.05)
        return response

    return misbehave


def floods(size: int) -> Misbehaviour:
    """A body of so many bytes, without end in sight."""

    async def misbehave(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(size // 65_536 + 1):
            await response.write(b" " * 65_536)
        return response

    return misbehave
