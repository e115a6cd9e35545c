"""The relay's metrics. Labels hold only topics of the service's own and codes of ``errors``."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest

from broker_bridge.observability import names


class RelayMetrics:
    """All series of one relay, in a registry of their own."""

    def __init__(self, *, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._sent = self._counter("sent", "Events that Kafka has acknowledged and that left the table.")
        self._set_aside = self._counter("set_aside", "Events that Kafka will not take, by code.", "code")
        self._failed = self._counter("failed_batches", "Batches of which a topic took not all, by code.", "code")
        self._database_errors = self._counter("database_errors", "Transactions that failed.")
        self._oldest = self._gauge("oldest_seconds", "Age of the oldest event that waits; 0 where none does.")
        self._waiting = self._gauge("waiting", "Events that wait in the table.")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{names.PREFIX}outbox_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"{names.PREFIX}outbox_{name}", text, registry=self.registry)

    def sent(self, count: int) -> None:
        """So many were acknowledged and deleted."""
        self._sent.inc(count)

    def set_aside(self, code: str) -> None:
        """One was set aside."""
        self._set_aside.labels(code).inc()

    def failed(self, code: str) -> None:
        """A topic did not take all of a batch."""
        self._failed.labels(code).inc()

    def database_failed(self) -> None:
        """A transaction failed."""
        self._database_errors.inc()

    def backlog(self, waiting: int, oldest_ms: int | None) -> None:
        """What waits now."""
        self._waiting.set(waiting)
        self._oldest.set((oldest_ms or 0) / 1000)

    def render(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)
