"""Audits of one route, again and again, as a metric and a health check."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol

from broker_bridge.clock import Clock
from broker_bridge.core.audit_standing import AuditStanding, Standing
from broker_bridge.errors import AuditError, BridgeError
from broker_bridge.replay.audit_metrics import AuditMetrics
from broker_bridge.replay.audit_round import AuditRound
from broker_bridge.worker.health_site import (
    Answer,
    HealthReport,
    HealthSite,
    json_answer,
    metrics_answer,
    report_answer,
)


class Told(Protocol):
    """Where rounds are told."""

    def ended(self, found: AuditRound, standing: AuditStanding) -> None:
        """One ended."""

    def failed(self, error: BridgeError) -> None:
        """One could not finish; there will be another."""


class AuditWatch:
    """Runs ``audit`` every ``every_ms`` until ``stop``; the interval is between an end and the next begin."""

    def __init__(
        self,
        audit: Callable[[], Awaitable[AuditRound]],
        *,
        route: str,
        every_ms: int,
        clock: Clock,
        told: Told,
    ) -> None:
        self._audit = audit
        self._clock = clock
        self._told = told
        self._route = route
        self._stopping = asyncio.Event()
        self.standing = AuditStanding(every_ms)
        self.metrics = AuditMetrics(route)

    def site(self, listen: str) -> HealthSite:
        """``/metrics``, ``/health/live`` (200 as long as it answers) and ``/health/ready``: 503 unless the books
        balance and the last round ended not too long ago."""
        pages = {"/health/live": self._live, "/health/ready": self._ready, "/metrics": self._metrics}
        return HealthSite(listen, pages)

    def stop(self) -> None:
        """End, a round under way is broken off. It changes nothing, so nothing is left half done."""
        self._stopping.set()

    async def run(self) -> None:
        """Rounds until ``stop``. Raises only what the very first round finds wrong with the call itself: an unknown
        topic, a list that is no list; whatever passes by itself is a failed round."""
        while not self._stopping.is_set():
            round_ = asyncio.ensure_future(self._one())
            stopped = asyncio.ensure_future(self._stopping.wait())
            try:
                await asyncio.wait((round_, stopped), return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopped.cancel()
                if not round_.done():
                    round_.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await round_
            if not round_.cancelled():
                round_.result()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self.standing.next_in_ms / 1000)

    async def _one(self) -> None:
        began_ms = self._clock.now_ms()
        try:
            found = await self._audit()
        except BridgeError as error:
            is_first = self.standing.standing is Standing.STARTING
            if is_first and not error.retriable and not isinstance(error, AuditError):
                raise
            self.standing.failed(str(error))
            self.metrics.failed()
            self._told.failed(error)
            return
        now_ms = self._clock.now_ms()
        kinds, reasons = [one.kind for one in found.objections], [one.text for one in found.objections]
        self.standing.ended(kinds, reasons, now_ms=now_ms)
        took_s = (now_ms - began_ms) / 1000
        self.metrics.ended(found, balanced=self.standing.balanced, took_s=took_s, now_ms=now_ms)
        self._told.ended(found, self.standing)

    async def _live(self) -> Answer:
        return json_answer({"status": "ok"})

    async def _ready(self) -> Answer:
        ok, text = self.standing.health(now_ms=self._clock.now_ms())
        return report_answer(HealthReport(ok, {f"audit of {self._route}": text}))

    async def _metrics(self) -> Answer:
        return metrics_answer(self.metrics.render())
