"""Health over HTTP: is the process alive, may it be given work, what do its metrics and routes say."""

from __future__ import annotations

import errno
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from broker_bridge.config.types import split_address
from broker_bridge.errors import BridgeError, ConfigError, NotFoundError, PortTakenError
from broker_bridge.observability import names
from broker_bridge.observability.logging import get_logger
from broker_bridge.observability.metrics import CONTENT_TYPE, WorkerMetrics

STOP_WITHIN_S: Final = 1.0
HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HealthReport:
    """Whether all is well, and what each check says, in words without data."""

    ok: bool
    checks: Mapping[str, str] = field(default_factory=dict)


class HealthServer:
    """Serves ``/health/live``, ``/health/ready`` (200 or 503), ``/metrics`` and ``/routes`` until stopped.

    ``live``, ``ready`` and ``details`` are asked at each request and must answer at once. Live means: do not restart
    me; ready: I take part in the work. A route that waits is ready, one that is stopped for good is not.
    """

    def __init__(
        self,
        listen: str,
        *,
        live: Callable[[], HealthReport],
        ready: Callable[[], HealthReport],
        metrics: WorkerMetrics,
        details: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        self._listen = listen
        self._live, self._ready, self._metrics, self._details = live, ready, metrics, details
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def start(self) -> None:
        """Listen. Raises ``PortTakenError``, or ``ConfigError`` where the address is not one of this machine."""
        host, port = split_address(self._listen)
        app = web.Application(middlewares=[_as_problem], client_max_size=1024)
        app.router.add_get("/health/live", self._answer_live)
        app.router.add_get("/health/ready", self._answer_ready)
        app.router.add_get("/metrics", self._render_metrics)
        app.router.add_get("/routes", self._render_routes)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=STOP_WITHIN_S)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            await runner.cleanup()
            raise self._cannot_listen(error) from error
        self._runner = runner
        self._port = int(runner.addresses[0][1])
        log.info(names.HEALTH_LISTENING, url=self.url)

    @property
    def port(self) -> int:
        """The port listened on, 0 before ``start``."""
        return self._port

    @property
    def url(self) -> str:
        """Where to ask, without a path."""
        host, _ = split_address(self._listen)
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    async def stop(self) -> None:
        """Stop listening, let running answers end within a second. Idempotent."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _answer_live(self, _: web.Request) -> web.Response:
        return _report(self._live())

    async def _answer_ready(self, _: web.Request) -> web.Response:
        return _report(self._ready())

    async def _render_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={**HEADERS, "Content-Type": CONTENT_TYPE})

    async def _render_routes(self, _: web.Request) -> web.Response:
        return _json(dict(self._details()), status=200)

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


def _report(report: HealthReport) -> web.Response:
    body = {"status": "ok" if report.ok else "failing", "checks": dict(report.checks)}
    return _json(body, status=200 if report.ok else 503)


def _json(body: Mapping[str, object], *, status: int, kind: str = "application/json") -> web.Response:
    return web.Response(
        body=json.dumps(body, default=str).encode(), status=status, headers={**HEADERS, "Content-Type": kind}
    )


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
    return _json(problem, status=status, kind="application/problem+json")
