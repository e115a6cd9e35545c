"""Health of one worker process over HTTP: is it alive, may it be given work, what do its metrics and routes say."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from broker_bridge.observability.metrics import WorkerMetrics
from broker_bridge.worker.health_site import (
    Answer,
    HealthReport,
    HealthSite,
    json_answer,
    metrics_answer,
    report_answer,
)

__all__ = ["HealthReport", "HealthServer"]


class HealthServer(HealthSite):
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
        self._live, self._ready, self._metrics, self._details = live, ready, metrics, details
        pages = {
            "/health/live": self._answer_live,
            "/health/ready": self._answer_ready,
            "/metrics": self._render_metrics,
            "/routes": self._render_routes,
        }
        super().__init__(listen, pages)

    async def _answer_live(self) -> Answer:
        return report_answer(self._live())

    async def _answer_ready(self) -> Answer:
        return report_answer(self._ready())

    async def _render_metrics(self) -> Answer:
        return metrics_answer(self._metrics.render())

    async def _render_routes(self) -> Answer:
        return json_answer(dict(self._details()))
