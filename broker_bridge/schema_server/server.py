"""The HTTP server in front of ``contracts.registry_api``: bodies within limits and time, every failure as error JSON.

Calls that write take turns on one thread, since they wait for the folder's lock; reading goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import unquote

from aiohttp import web

from broker_bridge.config.types import split_address
from broker_bridge.contracts import registry_values as api
from broker_bridge.contracts.registry_api import RegistryApi
from broker_bridge.contracts.registry_values import Refused, Reply, Request
from broker_bridge.errors import BridgeError, ConfigError, PortTakenError
from broker_bridge.observability import names
from broker_bridge.observability.logging import get_logger

LARGEST_BODY_BYTES: Final = 1024 * 1024
"""Of a request; the schemas of a large company are some hundred kilobytes."""
BODY_WITHIN_S: Final = 10.0
LINGER_S: Final = 1.0
"""How long the rest of a body is taken after it was refused, so that its sender reads why."""
STOP_WITHIN_S: Final = 2.0
MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"
ACCEPTED: Final = frozenset(
    {MEDIA_TYPE, "application/vnd.schemaregistry+json", "application/json", "application/octet-stream"}
)
"""Types of bodies, those of Confluent's registry. A page in a browser can send none of them to another site unasked."""

CALL_FAILED: Final = "schema_call_failed"
CHANGE_ANSWERED: Final = "schema_change_answered"
LOGGED: Final = {"schema_id": "id", names.CODE: "error_code", names.REASON: "message"}
"""What the log says of an answer, by its name in the log and in the answer."""

log = get_logger(__name__)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SchemaServer:
    """Serves a registry's calls on ``listen`` (``host:port``) from ``start`` to ``stop``."""

    def __init__(self, listen: str, registry: RegistryApi, *, body_within_s: float = BODY_WITHIN_S) -> None:
        self._host, self._wanted_port = split_address(listen)
        self._listen = listen
        self._api = registry
        self._body_within_s = body_within_s
        self._writer = ThreadPoolExecutor(1, "schemas-write")
        self._readers = ThreadPoolExecutor(2, "schemas-read")
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def start(self) -> None:
        """Listen. Raises ``PortTakenError``, or ``ConfigError`` where the address is not one of this machine."""
        app = web.Application(middlewares=[_as_error], client_max_size=LARGEST_BODY_BYTES)
        app.router.add_route("*", r"/{path:[\s\S]*}", self._answer)
        runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=STOP_WITHIN_S, lingering_time=LINGER_S
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._wanted_port).start()
        except OSError as error:
            await runner.cleanup()
            raise _cannot_listen(error, self._listen) from error
        self._runner = runner
        self._port = int(runner.addresses[0][1])

    @property
    def url(self) -> str:
        """What clients are given."""
        return f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self._port}"

    async def stop(self) -> None:
        """Stop listening; answers under way have two seconds. Idempotent."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        for pool in (self._writer, self._readers):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, request: web.Request) -> web.Response:
        if "Origin" in request.headers:
            raise Refused(api.FORBIDDEN, "pages in browsers are not served: the request has an Origin")
        asked = Request(
            method="GET" if request.method == "HEAD" else request.method,
            path=tuple(unquote(part) for part in request.rel_url.raw_path.split("/") if part),
            query=dict(request.query.items()),
            body=await self._body(request),
        )
        changes = self._api.changes(asked)
        pool = self._writer if changes else self._readers
        reply = await asyncio.get_running_loop().run_in_executor(pool, self._api.answer, asked)
        if changes:
            told = {name: reply.body[key] for name, key in LOGGED.items() if key in reply.body}
            log.info(CHANGE_ANSWERED, call=f"{asked.method} {request.rel_url.raw_path}", status=reply.status, **told)
        return _sent(reply)

    async def _body(self, request: web.Request) -> bytes:
        if not request.body_exists:
            return b""
        if request.content_type not in ACCEPTED:
            raise Refused(api.MEDIA_TYPE_UNKNOWN, f"the body is {request.content_type}, not {MEDIA_TYPE}")
        try:
            async with asyncio.timeout(self._body_within_s):
                return await request.read()
        except TimeoutError:
            raise Refused(api.TOO_SLOW, f"the body did not arrive within {self._body_within_s:g} s") from None


@web.middleware
async def _as_error(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Whatever goes wrong is answered in the registry's own form; a defect's words stay in the log."""
    try:
        return await handler(request)
    except Refused as refused:
        return _sent(refused.reply, close=refused.code == api.TOO_SLOW)
    except web.HTTPRequestEntityTooLarge:
        limit = LARGEST_BODY_BYTES // 1024
        return _sent(Refused(api.TOO_LARGE, f"the body is larger than {limit} KiB").reply, close=True)
    except web.HTTPException as error:
        return _sent(Refused(error.status, error.reason).reply)
    except ConnectionError:
        raise
    except Exception as error:
        log.error(CALL_FAILED, exc_info=error)
        return _sent(Refused(api.FOLDER_BROKEN, "internal error: see the log of broker-bridge schemas serve").reply)


def _sent(reply: Reply, *, close: bool = False) -> web.Response:
    body = json.dumps(reply.body, ensure_ascii=False).encode("utf-8", "backslashreplace")
    headers = {"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    response = web.Response(body=body, status=reply.status, headers=headers)
    if close:
        response.force_close()
    return response


def _cannot_listen(error: OSError, listen: str) -> BridgeError:
    if error.errno == errno.EADDRINUSE:
        return PortTakenError(
            "another program listens there",
            where=f"--listen {listen}",
            remedy="stop it, choose another port, or take a free one with --listen 127.0.0.1:0",
        )
    return ConfigError(
        f"cannot listen there: {error.strerror or error}",
        where=f"--listen {listen}",
        remedy="use an address of this machine, for example 127.0.0.1:8081",
    )
