"""The Python stand-ins write what the Go and Rust services write, and follow the same rules."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from demo.stand_ins import orders
from demo.stand_ins.effect_ledger import Delivery, Ledger

from broker_bridge.contracts.codec import Codec
from broker_bridge.contracts.directory import SchemaDirectory
from broker_bridge.errors import BridgeError
from broker_bridge.message import Position

ROOT = Path(__file__).parents[3]
ORDER = {"order_id": "o-1", "customer_id": "c-1", "amount_cents": 12, "currency": "EUR", "note": None}
DELIVERY = Delivery("k", "o-1", 1, 0, 5, None, "t/0/0")


def given(*more: str) -> Any:
    return orders.options(["produce", "--manifest", "m", "--count", "1000", *more])


def json_tags(path: str, struct: str) -> list[str]:
    text = (ROOT / path).read_text(encoding="utf-8")
    body = re.search(rf"(?s)type {struct} struct {{(.*?)\n}}", text)
    assert body
    return re.findall(r'json:"(\w+)"', body[1])


def test_the_manifest_and_the_summary_have_the_go_service_s_fields() -> None:
    event = next(orders.stream(given()))
    assert list(orders.manifest_line(event, Position("t", 0, 1))) == json_tags(
        "examples/orders/manifest.go", "ManifestLine"
    )
    summary = orders.Tally(given()).summary(interrupted=False)
    assert list(summary) == json_tags("examples/orders/tally.go", "Summary")


def test_the_stream_has_what_was_asked_for() -> None:
    events = list(orders.stream(given("--duplicates", "0.02")))
    firsts = [event for event in events if not event.repeat]
    assert (len(firsts), len(events)) == (1000, 1020)
    assert [event.sequence for event in firsts] == list(range(1, 1001))
    kinds = Counter(event.kind for event in firsts)
    assert kinds == {"order": 920, "rejected": 40, "poison-bytes": 20, "poison-schema-id": 20}
    assert Counter(event.version for event in firsts) == {1: 500, 2: 500}
    place = {event.sequence: at for at, event in enumerate(events) if not event.repeat}
    assert all(place[event.sequence] < at for at, event in enumerate(events) if event.repeat)


def test_equal_seeds_give_equal_streams() -> None:
    first, again, other = (
        [(event.kind, event.order) for event in orders.stream(given("--seed", seed))] for seed in ("3", "3", "4")
    )
    assert first == again != other


def test_valid_orders_decode_and_poison_does_not() -> None:
    codec, draw = Codec(SchemaDirectory(ROOT / "schemas")), random.Random(1)
    seen: Counter[str] = Counter()
    for event in orders.stream(given()):
        if event.repeat:
            continue
        record = orders.make_record(event, codec, "orders.placed", draw)
        assert record.value is not None
        if event.kind.startswith("poison"):
            with pytest.raises(BridgeError):
                codec.decode_json_ready(record.value)
        else:
            value, schema = codec.decode_json_ready(record.value)
            assert (value["order_id"], schema.version) == (event.order["order_id"], event.version)
            assert (value["note"] == "card-declined") == (event.kind == "rejected")
        seen[event.kind] += 1
    assert len(seen) == 4


def test_a_second_sending_is_the_same_record() -> None:
    for event in orders.stream(given()):
        if event.repeat:
            assert event.record == "sent before"
        event.record = "sent before"  # type: ignore[assignment]


def rust_fields() -> list[str]:
    text = (ROOT / "examples/payments/src/effect_log.rs").read_text(encoding="utf-8")
    body = re.search(r"(?s)pub struct Entry {(.*?)\n}", text)
    assert body
    return re.findall(r"pub (\w+):", body[1])


def test_the_log_has_the_rust_service_s_fields(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "log")
    ledger.deliver(DELIVERY, {**ORDER, "note": "card-declined"}, accept_declined=False)
    ledger.deliver(DELIVERY, ORDER, accept_declined=False)
    refused, applied = (json.loads(line) for line in (tmp_path / "log").read_text().splitlines())
    assert list(refused) == rust_fields()
    assert list(applied) == [name for name in rust_fields() if name != "code"]
    assert (refused["code"], refused["seq"], applied["seq"]) == ("card_declined", 1, 2)


def test_an_effect_happens_once_per_key_and_stale_workers_are_turned_away(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "log")
    kind, first = ledger.deliver(DELIVERY, ORDER, accept_declined=False)
    assert (kind, ledger.applied) == ("applied", 1)
    assert ledger.deliver(DELIVERY._replace(attempt=2, token=6), ORDER, accept_declined=False) == ("repeat", first)
    assert ledger.deliver(DELIVERY, ORDER, accept_declined=False) == ("fenced", "stale_token")
    other = {**ORDER, "amount_cents": 13}
    assert ledger.deliver(DELIVERY._replace(token=7), other, accept_declined=False) == ("refused", "key_conflict")
    assert (ledger.applied, ledger.lines) == (1, 4)


def test_a_restart_forgets_nothing_and_half_a_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "log"
    ledger = Ledger(path)
    _, first = ledger.deliver(DELIVERY, ORDER, accept_declined=False)
    with pytest.raises(BlockingIOError):
        Ledger(path)
    ledger.close()
    with path.open("ab") as log:
        log.write(b'{"seq":2,"kind":"app')
    again = Ledger(path)
    assert (again.lines, again.applied) == (1, 1)
    assert again.deliver(DELIVERY, ORDER, accept_declined=False) == ("repeat", first)
    assert [json.loads(line)["kind"] for line in path.read_text().splitlines()] == ["applied", "repeat"]
