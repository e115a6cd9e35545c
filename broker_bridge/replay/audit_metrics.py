"""The metrics of audits. Labels hold only the route, headings of the books and kinds of discrepancies."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest

from broker_bridge.core.audit import Outcome
from broker_bridge.core.reconcile import SIDES
from broker_bridge.observability import names
from broker_bridge.replay.audit_round import AuditRound


class AuditMetrics:
    """All series of the audits of one route, in a registry of their own. What a round would say is absent before the
    first one has ended, and stays as it was while rounds fail."""

    def __init__(self, route: str, *, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self._route = route
        ProcessCollector(registry=self.registry)
        self._balanced = self._gauge("balanced", "1 where the books balance, 0 where two rounds in a row object.")
        self._unaccounted = self._gauge("unaccounted", "Records that the books cannot explain.")
        self._records = self._gauge("records", "Records of the audited range by heading.", "heading")
        self._discrepancies = self._gauge("discrepancies", "What both sides do not agree on, by kind.", "kind")
        self._took = self._gauge("last_run_seconds", "How long the last round took that ended.")
        self._ended = self._gauge("last_run_timestamp_seconds", "When it ended, in seconds since 1970.")
        self._rounds = Counter(
            f"{names.PREFIX}audit_rounds",
            "Rounds by how they ended: balanced, objected, failed.",
            ("route", "outcome"),
            registry=self.registry,
        )
        for outcome in ("balanced", "objected", "failed"):
            self._rounds.labels(route, outcome)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{names.PREFIX}audit_{name}", text, ("route", *labels), registry=self.registry)

    def ended(self, found: AuditRound, *, balanced: bool | None, took_s: float, now_ms: int) -> None:
        """A round ended; ``balanced`` is what is confirmed since, None before anything is."""
        books = found.report.books
        for outcome in Outcome:
            self._records.labels(self._route, outcome.value).set(books.total(outcome))
        self._unaccounted.labels(self._route).set(books.total(Outcome.UNACCOUNTED))
        for side in SIDES if found.target is not None else ():
            self._discrepancies.labels(self._route, side).set(len(getattr(found.target, side)))
        if found.report.outputs is not None:
            self._discrepancies.labels(self._route, "results_missing").set(len(found.report.outputs.missing))
        if balanced is not None:
            self._balanced.labels(self._route).set(balanced)
        self._took.labels(self._route).set(took_s)
        self._ended.labels(self._route).set(now_ms / 1000)
        self._rounds.labels(self._route, "objected" if found.objections else "balanced").inc()

    def failed(self) -> None:
        """A round could not finish."""
        self._rounds.labels(self._route, "failed").inc()

    def render(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)
