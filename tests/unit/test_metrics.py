"""Metrics: what is counted is what is rendered, as Prometheus reads it."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker_bridge.errors import error_codes
from broker_bridge.observability import names
from broker_bridge.observability.histogram import Histogram
from broker_bridge.observability.metrics import WorkerMetrics

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(metrics: WorkerMetrics) -> Samples:
    """Everything rendered, read back by Prometheus' own parser."""
    return {
        (sample.name.removeprefix(names.PREFIX), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def value(metrics: WorkerMetrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, tuple(sorted({"route": "r", **labels}.items()))))


@pytest.fixture
def metrics() -> WorkerMetrics:
    made = WorkerMetrics(service="shop", version="1.2.3")
    made.route("r")
    return made


def test_a_route_is_there_at_zero_from_the_start(metrics: WorkerMetrics) -> None:
    for name in ("records_polled", "completed", "duplicates", "parked", "stale", "commits", "lease_lost"):
        assert value(metrics, f"{name}_total") == 0, name
    for window in names.WINDOWS:
        assert value(metrics, "windows_total", window=window) == 0
    assert value(metrics, "breaker_state") == 0
    assert value(metrics, "end_to_end_seconds_count") == 0


def test_counts_come_in_batches(metrics: WorkerMetrics) -> None:
    metrics.polled("r", 500)
    metrics.polled("r", 20)
    metrics.claim("r", "granted", 480)
    metrics.claim("r", "done", 40)
    metrics.parked("r", 3)
    metrics.skipped("r", "superseded", 2)
    metrics.dead_lettered("r", "target_rejected", 4)
    metrics.committed("r")
    assert value(metrics, "records_polled_total") == 520
    assert value(metrics, "claims_total", status="granted") == 480
    assert value(metrics, "duplicates_total") == 40
    assert value(metrics, "parked_total") == 3
    assert value(metrics, "skipped_total", reason="superseded") == 2
    assert value(metrics, "dead_lettered_total", code="target_rejected") == 4
    assert value(metrics, "commits_total") == 1


def test_a_completion_is_counted_and_timed(metrics: WorkerMetrics) -> None:
    metrics.completed("r", handling_ms=[3], age_ms=[40])
    metrics.completed("r", handling_ms=[3_000], age_ms=[-5])
    assert value(metrics, "completed_total") == 2
    assert value(metrics, "deliveries_total", outcome="complete", code="") == 2
    assert value(metrics, "delivery_seconds_count") == 2
    assert value(metrics, "delivery_seconds_sum") == pytest.approx(3.003)
    assert value(metrics, "delivery_seconds_bucket", le="0.005") == 1
    assert value(metrics, "delivery_seconds_bucket", le="5.0") == 2
    assert value(metrics, "end_to_end_seconds_sum") == pytest.approx(0.04)


def test_failures_are_counted_by_verdict_and_retries_by_place(metrics: WorkerMetrics) -> None:
    metrics.failed("r", "retry_in_place", "target_timeout", 2)
    metrics.failed("r", "retry_lane", "target_timeout", 3)
    metrics.failed("r", "dead_letter", "target_rejected")
    assert value(metrics, "deliveries_total", outcome="retry_lane", code="target_timeout") == 3
    assert value(metrics, "retried_total", where="in_place") == 2
    assert value(metrics, "retried_total", where="lane") == 3
    assert value(metrics, "deliveries_total", outcome="dead_letter", code="target_rejected") == 1


def test_a_code_that_nobody_knows_makes_no_series_of_its_own(metrics: WorkerMetrics) -> None:
    for number in range(1_000):
        metrics.failed("r", "dead_letter", f"made-up-{number}")
    assert value(metrics, "deliveries_total", outcome="dead_letter", code="other") == 1_000
    assert len([key for key in samples(metrics) if key[0] == "deliveries_total"]) == 1
    for code in error_codes():
        assert metrics.code(code) == code


def test_windows_of_the_guarantee_are_counted(metrics: WorkerMetrics) -> None:
    metrics.crash_takeover("r", 2)
    metrics.stale("r")
    metrics.window("r", names.W5_FAILED_OPEN, 7)
    assert value(metrics, "windows_total", window="w1_crash_takeover") == 2
    assert value(metrics, "windows_total", window="w2_stale_complete") == 1
    assert value(metrics, "stale_total") == 1
    assert value(metrics, "windows_total", window="w5_failed_open") == 7


def test_gauges_follow_and_are_forgotten_with_their_partition(metrics: WorkerMetrics) -> None:
    metrics.set_in_flight("r", 12, 4096)
    metrics.set_parked("r", 5)
    metrics.breaker("r", 2)
    metrics.set_paused("r", {"breaker_open", "redis_down"})
    metrics.set_paused("r", {"redis_down"})
    metrics.set_lag("r", "orders.placed", 3, 77, watermark_lag=8)
    assert (value(metrics, "in_flight"), value(metrics, "in_flight_bytes")) == (12, 4096)
    assert (value(metrics, "parked_now"), value(metrics, "breaker_state")) == (5, 2)
    assert value(metrics, "paused", reason="breaker_open") == 0
    assert value(metrics, "paused", reason="redis_down") == 1
    assert value(metrics, "lag", topic="orders.placed", partition="3") == 77
    assert value(metrics, "watermark_lag", topic="orders.placed", partition="3") == 8
    metrics.forget_partition("r", "orders.placed", 3)
    metrics.forget_partition("r", "orders.placed", 3)
    assert value(metrics, "lag", topic="orders.placed", partition="3") is None
    assert value(metrics, "watermark_lag", topic="orders.placed", partition="3") is None


def test_calls_to_the_servers_are_timed_and_their_failures_counted(metrics: WorkerMetrics) -> None:
    metrics.store_latency("r", "claim", 0.002)
    metrics.kafka_latency("r", "send", 0.2)
    metrics.store_error("r")
    metrics.send_error("r", 2)
    metrics.commit_failed("r", "lease_lost")
    assert value(metrics, "redis_batch_seconds_count", op="claim") == 1
    assert value(metrics, "kafka_batch_seconds_sum", op="send") == pytest.approx(0.2)
    assert value(metrics, "errors_total", server="redis") == 1
    assert value(metrics, "errors_total", server="kafka") == 2
    assert value(metrics, "commit_errors_total", code="lease_lost") == 1


def test_two_workers_in_one_process_do_not_share_series(metrics: WorkerMetrics) -> None:
    other = WorkerMetrics()
    other.route("r")
    metrics.polled("r", 1)
    assert value(other, "records_polled_total") == 0


def test_who_this_is_can_be_read(metrics: WorkerMetrics) -> None:
    found = samples(metrics)
    assert found[("worker_info", (("service", "shop"), ("version", "1.2.3")))] == 1
    assert any(name.startswith("process_resident_memory") for name, _ in found)


def test_a_histogram_counts_bounds_inclusively_and_refuses_wrong_labels() -> None:
    histogram = Histogram("h", "text", ("a", "b"), bounds=(1.0, 2.0))
    for observed in (-1.0, 0.5, 1.0, 1.5, 2.0, 99.0):
        histogram.labels("x", "y").observe(observed)
    (family,) = histogram.collect()
    assert {s.labels["le"]: s.value for s in family.samples if s.name == "h_bucket"} == {"1.0": 3, "2.0": 5, "+Inf": 6}
    assert [s.value for s in family.samples if s.name == "h_sum"] == [pytest.approx(104.0)]
    with pytest.raises(ValueError, match="labels"):
        histogram.labels("x")
