"""Serving health pages: one address, a few GET paths, every failure as a problem document."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from broker_bridge.config.types import split_address
from broker_bridge.errors import BridgeError, ConfigError, NotFoundError, PortTakenError
from broker_bridge.observability import names
from broker_bridge.observability.logging import get_logger
from broker_bridge.observability.metrics import CONTENT_TYPE

STOP_WITHIN_S: Final = 1.0
HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

Page = Callable[[], Awaitable[web.Response]]
"""What answers a GET of one path."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HealthReport:
    """Whether all is well, and what each check says, in words without data."""

    ok: bool
    checks: Mapping[str, str] = field(default_factory=dict)


class HealthSite:
    """Serves ``pages``, by path, on ``listen`` until stopped."""

    def __init__(self, listen: str, pages: Mapping[str, Page]) -> None:
        self._listen, self._pages = listen, pages
        self._given: socket.socket | None = None
        self._runner: web.AppRunner | None = None
        self._at: tuple[str, int] = (split_address(listen)[0], 0)

    def adopt(self, listening: socket.socket) -> None:
        """Serve on this socket, which somebody else has bound, instead of binding one. Call it before ``start``."""
        self._given = listening

    async def start(self) -> None:
        """Listen. Raises ``PortTakenError``, or ``ConfigError`` where the address is not one of this machine."""
        app = web.Application(middlewares=[_as_problem], client_max_size=1024)
        for path, page in self._pages.items():
            app.router.add_get(path, _handler_of(page))
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=STOP_WITHIN_S)
        await runner.setup()
        try:
            await self._site(runner).start()
        except OSError as error:
            await runner.cleanup()
            raise self._cannot_listen(error) from error
        self._runner = runner
        host = self._at[0] if self._given is None else str(runner.addresses[0][0])
        self._at = (host, int(runner.addresses[0][1]))
        log.info(names.HEALTH_LISTENING, url=self.url)

    @property
    def port(self) -> int:
        """The port listened on, 0 before ``start``."""
        return self._at[1]

    @property
    def url(self) -> str:
        """Where to ask, without a path."""
        host, port = self._at
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    async def stop(self) -> None:
        """Stop listening, let running answers end within a second. Idempotent."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def _site(self, runner: web.AppRunner) -> web.BaseSite:
        if self._given is not None:
            return web.SockSite(runner, self._given)
        return web.TCPSite(runner, *split_address(self._listen))

    def _cannot_listen(self, error: OSError) -> BridgeError:
        if error.errno == errno.EADDRINUSE:
            return PortTakenError(
                "another program listens there",
                where=f"[health] listen = {self._listen}",
                remedy='stop it, choose another port, or take a free one with listen = "127.0.0.1:0"',
            )
        return ConfigError(
            f"cannot listen there: {error.strerror or error}",
            where=f"[health] listen = {self._listen}",
            remedy='use an address of this machine, for example "127.0.0.1:0"',
        )


def report_answer(report: HealthReport) -> web.Response:
    """200 where all is well, 503 otherwise, with what each check says."""
    body = {"status": "ok" if report.ok else "failing", "checks": dict(report.checks)}
    return json_answer(body, status=200 if report.ok else 503)


def json_answer(body: Mapping[str, object], *, status: int = 200, kind: str = "application/json") -> web.Response:
    """``body`` as JSON."""
    return web.Response(
        body=json.dumps(body, default=str).encode(), status=status, headers={**HEADERS, "Content-Type": kind}
    )


def metrics_answer(rendered: bytes) -> web.Response:
    """Metrics in Prometheus' text format."""
    return web.Response(body=rendered, headers={**HEADERS, "Content-Type": CONTENT_TYPE})


def _handler_of(page: Page) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_: web.Request) -> web.StreamResponse:
        return await page()

    return answer


@web.middleware
async def _as_problem(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Errors as problem details (RFC 9457); a check that raises is a failure, and its words stay inside."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        code = NotFoundError.code if error.status == 404 else "usage"
        title, status = error.reason, error.status
    except Exception as error:
        log.error(names.HEALTH_CHECK_FAILED, exc_info=error)
        code, title, status = BridgeError.code, "health check failed", 500
    problem = {"type": f"urn:broker-bridge:error:{code}", "title": title, "status": status, "code": code}
    return json_answer(problem, status=status, kind="application/problem+json")
