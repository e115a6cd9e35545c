"""The worker's metrics. Everything is counted by route; increments take a number, since work comes in batches.

::

    metrics.route("payments")
    metrics.polled("payments", len(records))
    metrics.failed("payments", "retry_lane", "target_timeout", 3)

Labels hold only what is known beforehand (routes, codes of ``errors``, partitions), so a target cannot make up
series.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Info, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from broker_bridge.errors import error_codes
from broker_bridge.observability import names
from broker_bridge.observability.histogram import Histogram

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
"""The media type of ``render()``."""

DELIVERY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
END_TO_END_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
BATCH_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

OTHER_CODE: Final = "other"
RETRIES: Final = {"retry_in_place": "in_place", "retry_lane": "lane"}
"""Verdicts that mean a further attempt, and where it will be."""


class WorkerMetrics:
    """All series of one worker, in a registry of their own. Histograms are in seconds, as Prometheus wants them."""

    def __init__(self, *, service: str = "broker-bridge", version: str = "", registry: CollectorRegistry | None = None):
        self.registry = registry if registry is not None else CollectorRegistry()
        self._codes = frozenset(error_codes())
        self._pauses: dict[str, set[str]] = {}
        self._completed_of: dict[str, tuple[Counter, Counter]] = {}
        ProcessCollector(registry=self.registry)
        Info(f"{names.PREFIX}worker", "Who this is.", registry=self.registry).info(
            {"service": service, "version": version}
        )
        self._define_counters()
        self._define_gauges()
        self._define_histograms()

    def _define_counters(self) -> None:
        self.records_polled = self._counter("records_polled", "Records read from source and lanes.")
        self.claims = self._counter("claims", "Claims asked for, by answer.", "status")
        self.deliveries = self._counter("deliveries", "Attempts at the target, by outcome.", "outcome", "code")
        self.completions = self._counter("completed", "Messages whose effect is done and recorded.")
        self.duplicated = self._counter("duplicates", "Messages dropped because they were completed before.")
        self.retried = self._counter("retried", "Further attempts scheduled, in place or through a lane.", "where")
        self.parkings = self._counter("parked", "Messages set aside behind an earlier one of their key.")
        self.dead_letters = self._counter("dead_lettered", "Messages written to the dead-letter topic.", "code")
        self.skips = self._counter("skipped", "Messages settled without work, by reason.", "reason")
        self.budget_denials = self._counter(
            "retry_budget_denied", "Times a retry had to wait because its target's budget was spent."
        )
        self.stale_ends = self._counter("stale", "Work whose claim had passed to another worker when it ended.")
        self.commits = self._counter("commits", "Offset commits that Kafka accepted.")
        self.leases_lost = self._counter("lease_lost", "Claims that had passed on when they were to be renewed.")
        self.commit_errors = self._counter("commit_errors", "Offset commits refused or not answered.", "code")
        self.errors = self._counter("errors", "Calls to a server that failed.", "server")
        self.windows = self._counter("windows", "Times the guarantee allowed an effect to repeat, by window.", "window")

        self.unguarded = self._counter(
            "unguarded_claims", "Claims made while Redis was away that collided at home, or never got there.", "outcome"
        )

    def _define_gauges(self) -> None:
        self.in_flight = self._gauge("in_flight", "Messages in hand.")
        self.in_flight_bytes = self._gauge("in_flight_bytes", "Bytes of the messages in hand.")
        self.parked_now = self._gauge("parked_now", "Messages waiting behind an earlier one of their key.")
        self.lag = self._gauge("lag", "Records in the partition after the committed offset.", "topic", "partition")
        self.watermark_lag = self._gauge(
            "watermark_lag", "Records read beyond the first unsettled one.", "topic", "partition"
        )
        self.breaker_state = self._gauge("breaker_state", "0 closed, 1 half open, 2 open.")
        self.budget_left = self._gauge("retry_budget_left", "Retries that the target is given now, by all workers.")
        self.paused = self._gauge("paused", "1 while the route is paused for this reason.", "reason")

    def _define_histograms(self) -> None:
        self.delivery_seconds = self._histogram("delivery_seconds", "One attempt at the target.", DELIVERY_BUCKETS)
        self.end_to_end_seconds = self._histogram(
            "end_to_end_seconds", "From the record's timestamp to its completion.", END_TO_END_BUCKETS
        )
        self.redis_batch_seconds = self._histogram("redis_batch_seconds", "One call to Redis.", BATCH_BUCKETS, "op")
        self.kafka_batch_seconds = self._histogram("kafka_batch_seconds", "One call to Kafka.", BATCH_BUCKETS, "op")

    def route(self, name: str) -> None:
        """Make the route's series present from the start: a counter at 0 can be alerted on, an absent one cannot."""
        for counter in (self.records_polled, self.completions, self.duplicated, self.parkings, self.stale_ends):
            counter.labels(name)
        for counter in (self.commits, self.leases_lost, self.budget_denials):
            counter.labels(name)
        for window in names.WINDOWS:
            self.windows.labels(name, window)
        for outcome in ("collided", "dropped"):
            self.unguarded.labels(name, outcome)
        for where in ("in_place", "lane"):
            self.retried.labels(name, where)
        for gauge in (self.in_flight, self.in_flight_bytes, self.parked_now, self.breaker_state, self.budget_left):
            gauge.labels(name)
        for histogram in (self.delivery_seconds, self.end_to_end_seconds):
            histogram.labels(name)

    def code(self, code: str) -> str:
        """The code as a label: codes that ``errors`` does not know become ``other``."""
        return code if code in self._codes or not code else OTHER_CODE

    def render(self) -> bytes:
        """Everything, in Prometheus' text format (``CONTENT_TYPE``)."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{names.PREFIX}{name}", text, ("route", *labels), registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{names.PREFIX}{name}", text, ("route", *labels), registry=self.registry)

    def _histogram(self, name: str, text: str, bounds: tuple[float, ...], *labels: str) -> Histogram:
        made = Histogram(f"{names.PREFIX}{name}", text, ("route", *labels), bounds=bounds)
        self.registry.register(made)
        return made

    def polled(self, route: str, count: int) -> None:
        """Records read."""
        self.records_polled.labels(route).inc(count)

    def claim(self, route: str, status: str, count: int = 1) -> None:
        """Answers to claims, by the name of ``ClaimStatus`` in lower case; ``done`` is a duplicate dropped."""
        self.claims.labels(route, status).inc(count)
        if status == "done":
            self.duplicated.labels(route).inc(count)

    def completed(self, route: str, *, handling_ms: Sequence[float], age_ms: Sequence[float]) -> None:
        """Messages done: how long the target took for each, how old each record was (a clock ahead of ours counts
        as 0)."""
        children = self._completed_of.get(route)
        if children is None:  # looked up once: this runs for every batch
            children = self.completions.labels(route), self.deliveries.labels(route, "complete", "")
            self._completed_of[route] = children
        for counter in children:
            counter.inc(len(handling_ms))
        self.delivery_seconds.labels(route).observe_all([each / 1000 for each in handling_ms])
        self.end_to_end_seconds.labels(route).observe_all([each / 1000 for each in age_ms])

    def failed(self, route: str, verdict: str, code: str, count: int = 1) -> None:
        """Attempts that failed with ``code``, and what was decided: the value of a ``Verdict``."""
        self.deliveries.labels(route, verdict, self.code(code)).inc(count)
        if verdict in RETRIES:
            self.retried.labels(route, RETRIES[verdict]).inc(count)

    def dead_lettered(self, route: str, code: str, count: int = 1) -> None:
        """Dead letters that Kafka has acknowledged."""
        self.dead_letters.labels(route, self.code(code)).inc(count)

    def parked(self, route: str, count: int = 1) -> None:
        """Messages set aside behind an earlier one of their key."""
        self.parkings.labels(route).inc(count)

    def skipped(self, route: str, reason: str, count: int = 1) -> None:
        """Messages settled without work; ``reason`` is a word of the worker's own, never of a message."""
        self.skips.labels(route, reason).inc(count)

    def stale(self, route: str, count: int = 1) -> None:
        """Work that ended after its claim had passed on (window W2)."""
        self.stale_ends.labels(route).inc(count)
        self.window(route, names.W2_STALE_COMPLETE, count)

    def crash_takeover(self, route: str, count: int = 1) -> None:
        """Claims taken over from a worker that let its lease pass (window W1)."""
        self.window(route, names.W1_CRASH_TAKEOVER, count)

    def window(self, route: str, window: str, count: int = 1) -> None:
        """An effect may have repeated: one of ``names.WINDOWS``."""
        self.windows.labels(route, window).inc(count)

    def unguarded_claim(self, route: str, outcome: str, count: int = 1) -> None:
        """What became of claims made while Redis was away: ``collided`` or ``dropped`` (``idempotency.degraded``)."""
        self.unguarded.labels(route, outcome).inc(count)

    def committed(self, route: str, count: int = 1) -> None:
        """Commits that Kafka accepted."""
        self.commits.labels(route).inc(count)

    def commit_failed(self, route: str, code: str, count: int = 1) -> None:
        """Commits that Kafka refused or did not answer."""
        self.commit_errors.labels(route, self.code(code)).inc(count)

    def lease_lost(self, route: str, count: int = 1) -> None:
        """Claims that were no longer ours when they were to be renewed."""
        self.leases_lost.labels(route).inc(count)

    def store_error(self, route: str, count: int = 1) -> None:
        """Calls to Redis that failed."""
        self.errors.labels(route, "redis").inc(count)

    def send_error(self, route: str, count: int = 1) -> None:
        """Sends to Kafka that failed."""
        self.errors.labels(route, "kafka").inc(count)

    def store_latency(self, route: str, op: str, duration_s: float) -> None:
        """One call to Redis: claim, renew, settle."""
        self.redis_batch_seconds.labels(route, op).observe(duration_s)

    def kafka_latency(self, route: str, op: str, duration_s: float) -> None:
        """One call to Kafka: poll, send, commit."""
        self.kafka_batch_seconds.labels(route, op).observe(duration_s)

    def breaker(self, route: str, state: int) -> None:
        """0 closed, 1 half open, 2 open (``BreakerState``)."""
        self.breaker_state.labels(route).set(state)

    def budget_denied(self, route: str) -> None:
        """A retry was put off because the target's budget is spent."""
        self.budget_denials.labels(route).inc()

    def set_budget_left(self, route: str, retries: int) -> None:
        """How many more retries the target is given now."""
        self.budget_left.labels(route).set(retries)

    def set_in_flight(self, route: str, count: int, size_bytes: int) -> None:
        """What is in hand now."""
        self.in_flight.labels(route).set(count)
        self.in_flight_bytes.labels(route).set(size_bytes)

    def set_parked(self, route: str, count: int) -> None:
        """How many wait behind an earlier one now."""
        self.parked_now.labels(route).set(count)

    def set_paused(self, route: str, reasons: Collection[str]) -> None:
        """Everything the route stands still for now; reasons it gave before and gives no more go to 0."""
        seen = self._pauses.setdefault(route, set())
        seen.update(reasons)
        for reason in seen:
            self.paused.labels(route, reason).set(1 if reason in reasons else 0)

    def set_lag(self, route: str, topic: str, partition: int, lag: int, *, watermark_lag: int | None = None) -> None:
        """Records after the committed offset, and of those how many were already read."""
        self.lag.labels(route, topic, str(partition)).set(lag)
        if watermark_lag is not None:
            self.watermark_lag.labels(route, topic, str(partition)).set(watermark_lag)

    def forget_partition(self, route: str, topic: str, partition: int) -> None:
        """The partition is another worker's now; its gauges would lie."""
        for gauge in (self.lag, self.watermark_lag):
            gauge.remove(route, topic, str(partition))  # remove_by_labels looks through all of them
