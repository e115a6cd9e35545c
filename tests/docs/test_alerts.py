"""compose/alerts.yml: rules that Prometheus takes, about metrics that there are, each with a page that exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from pages import ROOT, anchors_of, section
from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase

from broker_bridge.errors import error_codes
from broker_bridge.observability import names
from broker_bridge.observability.metrics import WorkerMetrics
from broker_bridge.outbox.metrics import RelayMetrics
from broker_bridge.replay.audit_metrics import AuditMetrics
from broker_bridge.worker.claim_stage import PAUSED_BY_STORE
from broker_bridge.worker.crew import Crew
from broker_bridge.worker.crew_health import CrewSeries
from broker_bridge.worker.flow import PAUSED_BY_BREAKER
from broker_bridge.worker.outcome import PAUSED_BY_LIMIT
from broker_bridge.worker.publisher import PAUSED_BY_KAFKA

RULES = (ROOT / "compose" / "alerts.yml").read_text()
INDEX = (ROOT / "docs" / "runbooks.md").read_text()
PAUSES = {PAUSED_BY_STORE, PAUSED_BY_BREAKER, PAUSED_BY_LIMIT, PAUSED_BY_KAFKA}
BY_CODE = "docs/runbooks/{{ $labels.code }}.md"
RULE_KEYS = {"alert", "expr", "for", "labels", "annotations"}
SCRAPED = {"instance", "job"}
"""Labels that Prometheus itself puts on each series."""


def series() -> dict[str, set[str]]:
    """Every series of ours, as Prometheus stores it, with its own labels."""
    found = {
        "up": set(),
        f"{names.PREFIX}worker_info": {"service", "version"},
    }
    for family in CrewSeries(cast(Crew, SimpleNamespace(members=()))).collect():
        found[stored_as(family)] = {names.PROCESS}
    for metrics in (WorkerMetrics(), RelayMetrics(), AuditMetrics("payments")):
        for one in vars(metrics).values():
            if isinstance(one, MetricWrapperBase):
                [family] = one.describe()
                found[stored_as(family)] = set(one._labelnames)
    return found


def stored_as(family: Metric) -> str:
    return family.name + ("_total" if family.type == "counter" else "")


SERIES = series()


def complaints(text: str) -> list[str]:
    """What is wrong with a file of rules."""
    document = yaml.safe_load(text)
    if not isinstance(document, dict) or set(document) != {"groups"}:
        return ["is no file of rule groups"]
    found: list[str] = []
    groups = [group.get("name") for group in document["groups"]]
    rules = [rule for group in document["groups"] for rule in group.get("rules", [])]
    alerts = [rule.get("alert") for rule in rules]
    found += [f"group {name!r} is there twice, or has no name" for name in groups if groups.count(name) > 1 or not name]
    found += [f"alert {name!r} is there twice" for name in set(alerts) if alerts.count(name) > 1]
    found += [
        f"unknown key {key!r} in a group" for group in document["groups"] for key in set(group) - {"name", "rules"}
    ]
    for rule in rules:
        found += [f"{rule.get('alert')}: {complaint}" for complaint in wrong_with(rule)]
    alerted = set(re.findall(rf'{names.PREFIX}paused{{reason="(\w+)"}}', text))
    found += [f"no alert for a route paused by {reason}" for reason in sorted(PAUSES - alerted)]
    found += [f"{reason} pauses no route" for reason in sorted(alerted - PAUSES)]
    return found


def wrong_with(rule: dict[str, Any]) -> Iterator[str]:
    yield from (f"unknown key {key!r}" for key in sorted(set(rule) - RULE_KEYS))
    if not re.fullmatch(r"BrokerBridge[A-Za-z]+", str(rule.get("alert"))):
        yield "has no name like BrokerBridge…"
    if not re.fullmatch(r"\d+[smh]", str(rule.get("for", "1m"))):
        yield f"for: {rule['for']!r} is no duration"
    if rule.get("labels") not in ({"severity": "page"}, {"severity": "ticket"}):
        yield "is neither for a page nor a ticket"
    annotations = rule.get("annotations", {})
    yield from (f"has no {key}" for key in ("summary", "description", "runbook") if not annotations.get(key))
    expression = str(rule.get("expr", ""))
    yield from wrong_expression(expression)
    kept = labels_kept(expression)
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(map(str, annotations.values()))))
    yield from (f"shows the label {label}, which the expression does not keep" for label in sorted(used - kept))
    yield from wrong_page(str(annotations.get("runbook")))


def wrong_expression(expression: str) -> Iterator[str]:
    plain = re.sub(r'"[^"]*"', '""', expression)
    if any(plain.count(left) != plain.count(right) for left, right in ("()", "{}", "[]")):
        yield "brackets do not match"
    if not re.search(r"==|[<>]|^absent\(", plain):
        yield "compares nothing, so it would always fire"
    for name in re.findall(rf"\b(?:{names.PREFIX}\w+|up)\b", plain):
        if name not in SERIES:
            yield f"there is no metric {name}"
    for name, selectors in re.findall(r"(\w+)\{([^}]*)\}", expression):
        for label, value in re.findall(r'(\w+)(?:=~|!~|!=|=)"([^"]*)"', selectors):
            if label not in SERIES.get(name, set()) | SCRAPED:
                yield f"{name} has no label {label}"
            if label == "window" and not any(re.fullmatch(value, window) for window in names.WINDOWS):
                yield f"there is no window {value}"
    for inner, labels in reversed(
        [(name, by) for by, name in re.findall(r"by \(([\w, ]+)\) \((?:\w+\()?(\w+)", plain)]
    ):
        for label in re.split(r", *", labels):
            if label not in SERIES.get(inner, set()) | SCRAPED:
                yield f"{inner} has no label {label}"


def labels_kept(expression: str) -> set[str]:
    """Labels that are left for annotations."""
    grouped = re.findall(r"\bby \(([\w, ]+)\)", expression)
    if grouped:
        return set(re.split(r", *", grouped[0]))
    return SCRAPED.union(*(SERIES.get(name, set()) for name in re.findall(r"\w+", expression)))


def wrong_page(page: str) -> Iterator[str]:
    path, _, anchor = page.partition("#")
    if page == BY_CODE:
        pages = {f"docs/runbooks/{code}.md" for code in error_codes()}
        yield from (f"there is no {each}" for each in sorted(pages) if not (ROOT / each).is_file())
    elif not (ROOT / path).is_file() or not path.startswith("docs/runbooks"):
        yield f"there is no page {page}"
    elif anchor and anchor not in anchors_of((ROOT / path).read_text()):
        yield f"there is no section {page}"


def test_the_rules_are_sound() -> None:
    assert len(SERIES) > 30
    assert complaints(RULES) == []


def test_the_index_lists_them_with_their_severity_and_page() -> None:
    listed = {}
    for alert, severity, link in re.findall(r"^\| `(\w+)` \| (\w+) \| .+ \| (.+) \|$", section(INDEX, "Alerts"), re.M):
        target = re.search(r"\]\((.+)\)", link)
        page = (
            BY_CODE if target is None else f"docs/{target[1]}" if "/" in target[1] else f"docs/runbooks.md{target[1]}"
        )
        listed[alert] = (severity, page)
    rules = [rule for group in yaml.safe_load(RULES)["groups"] for rule in group["rules"]]
    assert listed == {rule["alert"]: (rule["labels"]["severity"], rule["annotations"]["runbook"]) for rule in rules}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("broker_bridge_lag{", "broker_bridge_lags{", "no metric broker_bridge_lags"),
        ("dead_lettered_total", "dead_lettered", "no metric broker_bridge_dead_lettered"),
        (
            "(broker_bridge_dead_lettered_total[5m]))",
            "(broker_bridge_dead_lettered_total[5m])",
            "brackets do not match",
        ),
        (
            "sum by (route, code) (increase(broker_bridge_dead",
            "sum by (route, kode) (increase(broker_bridge_dead",
            "kode",
        ),
        (
            "sum by (route, code) (increase(broker_bridge_dead",
            "sum by (route) (increase(broker_bridge_dead",
            "label code",
        ),
        ('reason="kafka_down"', 'reason="kafka_gone"', "no alert for a route paused by kafka_down"),
        ('reason="kafka_down"', 'reason="kafka_gone"', "kafka_gone pauses no route"),
        ('{reason="kafka_down"}', '{raeson="kafka_down"}', "has no label raeson"),
        ('window="w3_claims_lost"', 'window="w3"', "no window w3"),
        ("docs/runbooks/redis_unavailable.md", "docs/runbooks/redis_gone.md", "no page docs/runbooks/redis_gone.md"),
        ("#lag-without-progress", "#lag", "no section docs/runbooks.md#lag"),
        ("severity: page", "severity: phone", "neither for a page nor a ticket"),
        ("for: 2m", "for: two minutes", "is no duration"),
        ("for: 2m", "fore: 2m", "unknown key 'fore'"),
        ("alert: BrokerBridgeDeadLettersGrowing", "alert: BrokerBridgeDeadLetters", "is there twice"),
        ('up{job="broker-bridge"} == 0', 'up{job="broker-bridge"}', "would always fire"),
        ("groups:", "rules:", "no file of rule groups"),
    ],
)
def test_rules_that_are_wrong_are_noticed(before: str, after: str, said: str) -> None:
    assert before in RULES
    found = complaints(RULES.replace(before, after))
    assert any(said in complaint for complaint in found), found
