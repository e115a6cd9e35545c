"""One worker process: its routes, its store, its health server. The first failure drains the rest and is what the
process ends with."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from broker_bridge.errors import BridgeError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.observability import events
from broker_bridge.observability.logging import get_logger
from broker_bridge.worker.garbage import rare_collections
from broker_bridge.worker.health import HealthReport, HealthServer
from broker_bridge.worker.route_worker import RouteWorker

log = get_logger(__name__)


class Worker:
    """Runs routes until ``stop``."""

    def __init__(self, routes: Sequence[RouteWorker], store: IdempotencyStore, *, worker_id: str) -> None:
        self._routes = list(routes)
        self._store = store
        self._id = worker_id
        self._running = False
        self._stopping = False
        self.health: HealthServer | None = None

    @property
    def routes(self) -> Sequence[RouteWorker]:
        """What it runs."""
        return self._routes

    def stop(self) -> None:
        """Ask every route for a drain. May be called from a signal handler of the event loop, and more than once."""
        self._stopping = True
        for route in self._routes:
            route.stop()

    async def run(self) -> None:
        """Work until ``stop``. Raises the first failure, once the other routes have drained."""
        try:
            if self.health is not None:
                await self.health.start()
            await self._store.start()
            if self._stopping:
                return
            self._running = True
            log.info(events.WORKER_STARTED, worker=self._id, routes=[r.pipeline.route.name for r in self._routes])
            with rare_collections():
                await self._run_routes()
        finally:
            self._running = False
            await self._store.stop()
            if self.health is not None:
                await self.health.stop()
            log.info(events.WORKER_STOPPED, worker=self._id)

    async def _run_routes(self) -> None:
        tasks = [asyncio.create_task(route.run(), name=route.pipeline.route.name) for route in self._routes]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self.stop()
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        failures = [(task.get_name(), error) for task in tasks if (error := task.exception()) is not None]
        for name, error in failures:
            found = first_failure(error)
            log.error(events.ROUTE_FAILED, route=name, code=getattr(found, "code", "internal"), error=str(found))
        if failures:
            raise first_failure(failures[0][1])

    def live(self) -> HealthReport:
        """The process need not be restarted: the loop answered, and no route has failed (a failure ends the
        process)."""
        return HealthReport(ok=True, checks={"loop": "answers"})

    def ready(self) -> HealthReport:
        """Every route takes part in its group. One that waits for a server or a target does, and what it waits for is
        told; one that its dead letters have stopped does not."""
        checks = {route.pipeline.route.name: route.state() for route in self._routes}
        taking_part = all(route.takes_part for route in self._routes)
        return HealthReport(ok=self._running and not self._stopping and taking_part, checks=checks)

    def details(self) -> Mapping[str, object]:
        """What ``/routes`` shows."""
        return {route.pipeline.route.name: route.details() for route in self._routes}


def first_failure(error: BaseException) -> BaseException:
    """The error that speaks for a group of them: one of ours where there is one."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [first_failure(part) for part in error.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, BridgeError)), leaves[0])
