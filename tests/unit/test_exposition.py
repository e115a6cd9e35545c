"""Metrics of several processes on one page, as Prometheus' own parser reads it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from broker_bridge.observability.exposition import merged
from broker_bridge.observability.metrics import WorkerMetrics

ONE = """# HELP jobs_total Jobs.
# TYPE jobs_total counter
jobs_total{route="a b{c}"} 1.0
# HELP up Whether.
# TYPE up gauge
up 1.0
# HELP empty Nothing yet.
# TYPE empty gauge
"""
OTHER = """# HELP empty Nothing yet.
# TYPE empty gauge
empty{} 3.0
# HELP jobs_total Jobs.
# TYPE jobs_total counter
jobs_total{route="a b{c}"} 2.0
# HELP new_total Only here.
# TYPE new_total counter
new_total 5.0
"""


def test_samples_of_a_name_stand_together_under_one_heading_with_their_process() -> None:
    assert merged({"1": ONE, "2": OTHER}, label="process").splitlines() == [
        "# HELP empty Nothing yet.",
        "# TYPE empty gauge",
        'empty{process="2"} 3.0',
        "# HELP jobs_total Jobs.",
        "# TYPE jobs_total counter",
        'jobs_total{process="1",route="a b{c}"} 1.0',
        'jobs_total{process="2",route="a b{c}"} 2.0',
        "# HELP new_total Only here.",
        "# TYPE new_total counter",
        'new_total{process="2"} 5.0',
        "# HELP up Whether.",
        "# TYPE up gauge",
        'up{process="1"} 1.0',
    ]


def test_nothing_is_nothing() -> None:
    assert merged({}, label="process") == ""
    assert merged({"1": ""}, label="process") == ""


def test_what_workers_render_is_read_back_whole() -> None:
    pages, polled = {}, {"1": 7.0, "2": 9.0}
    for number, count in polled.items():
        metrics = WorkerMetrics(service="shop")
        metrics.route("payments")
        metrics.polled("payments", int(count))
        metrics.completed("payments", handling_ms=[1.0, 20.0], age_ms=[5.0, 6.0])
        pages[number] = metrics.render().decode()
    families = list(text_string_to_metric_families(merged(pages, label="process")))
    names = [family.name for family in families]
    assert len(names) == len(set(names)), "a family that comes twice is refused by Prometheus"
    samples = [sample for family in families for sample in family.samples]
    assert all(sample.labels["process"] in polled for sample in samples)
    found = {s.labels["process"]: s.value for s in samples if s.name == "broker_bridge_records_polled_total"}
    assert found == polled
    one = list(text_string_to_metric_families(pages["1"]))
    assert len(samples) == 2 * sum(len(family.samples) for family in one)
