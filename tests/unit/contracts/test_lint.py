"""Each rule of the lint finds what it is there for, finds nothing in a schema that is right, and can be waived."""

from __future__ import annotations

import json
from typing import Any

import pytest
from schema_folder import SCHEMAS

from broker_bridge.contracts.any_schema import parse_any, read_any
from broker_bridge.contracts.lint import Finding, all_rules, lint

GOOD: dict[str, Any] = {"name": "id", "type": "string", "doc": "Which one."}


def found(schema: Any, before: Any = None) -> list[Finding]:
    earlier = parse_any(json.dumps(before)) if before is not None else None
    return lint(parse_any(json.dumps(schema)), earlier)


def record(*fields: Any, name: str = "shop.Thing", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "doc": "A thing.", "fields": list(fields), **more}


def field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "doc": "Of it.", **more}


def enum(*symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "Kind", "symbols": list(symbols), **more}


def means(kind: str, logical: Any, **more: Any) -> dict[str, Any]:
    return {"type": kind, "logicalType": logical, **more}


def fixed(size: int, **more: Any) -> dict[str, Any]:
    return {"type": "fixed", "name": "Raw", "size": size, **more}


RIGHT = record(
    GOOD,
    field("placed_at", means("long", "timestamp-millis")),
    field("kind", enum("NEW", "OTHER", default="OTHER")),
    field("note", ["null", "string"], default=None),
    field("limit", ["long", "null"], default=5),
    field("total", means("bytes", "decimal", precision=12, scale=2)),
    field("raw", fixed(8, logicalType="decimal", precision=18, scale=2)),
    field("parts", {"type": "array", "items": {"type": "record", "name": "Part", "fields": [field("sku", "string")]}}),
)

CASES: list[tuple[str, str, Any, Any]] = [
    ("added-field-default", "more", record(GOOD, field("more", "int")), record(GOOD)),
    ("enum-default", "kind", record(field("kind", enum("NEW"))), None),
    ("nullable-default", "note", record(field("note", ["null", "string"])), None),
    ("null-first", "note", record(field("note", ["string", "null"])), None),
    ("first-branch-default", "note", record(field("note", ["null", "string"], default="x")), None),
    ("first-branch-default", "n", record(field("n", ["int", "string"], default="x")), None),
    ("first-branch-default", "n", record(field("n", ["boolean", "int"], default=1)), None),
    ("first-branch-default", "n", record(field("n", ["int", "boolean"], default=True)), None),
    ("alias-taken", "", record(field("a", "int", aliases=["b"]), field("b", "int")), None),
    ("union-of-many", "any", record(field("any", ["null", "string", "int"], default=None)), None),
    ("namespace", "", record(GOOD, name="Thing"), None),
    ("type-name", "", record(GOOD, name="shop.thing_placed"), None),
    ("field-name", "", record(field("orderId", "string"), field("customer_id", "string")), None),
    ("symbol-name", "kind", record(field("kind", enum("New", default="New"))), None),
    ("reserved-word", "func", record(field("func", "string")), None),
    ("reserved-word", "impl", record(field("impl", "string")), None),
    ("reserved-word", "lambda", record(field("lambda", "string")), None),
    ("name-clash", "", record(field("order_id", "string"), field("orderid", "string")), None),
    ("name-clash", "kind", record(field("kind", enum("A_B", "AB", default="AB"))), None),
    ("doc", "id", record({"name": "id", "type": "string"}), None),
    ("doc", "id", record({"name": "id", "type": "string", "doc": " "}), None),
    ("doc", "", record(GOOD, doc=None), None),
    ("decimal", "m", record(field("m", means("bytes", "decimal", precision=2, scale=3))), None),
    ("decimal", "m", record(field("m", means("bytes", "decimal"))), None),
    ("decimal", "m", record(field("m", fixed(2, logicalType="decimal", precision=9))), None),
    ("decimal-digits", "m", record(field("m", means("bytes", "decimal", precision=39, scale=2))), None),
    ("logical-type", "at_", record(field("at_", means("long", "timestamp-milis"))), None),
    ("logical-type", "at_", record(field("at_", means("string", "timestamp-millis"))), None),
    ("logical-type", "at_", record(field("at_", means("long", 7))), None),
    ("logical-type-place", "x", record(field("x", "long", logicalType="timestamp-millis")), None),
    ("time-as-number", "placed_at", record(field("placed_at", "long")), None),
    ("time-as-number", "birth_date", record(field("birth_date", ["null", "string"], default=None)), None),
    ("money-as-float", "unit_price", record(field("unit_price", "double")), None),
    ("waiver-unknown", "", record(GOOD, **{"lint.waive": {"docs": "why not"}}), None),
    ("waiver-without-reason", "id", record({"name": "id", "type": "string", "lint.waive": {"doc": " "}}), None),
    ("waiver-without-reason", "", record(GOOD, **{"lint.waive": ["doc"]}), None),
    ("waiver-unused", "", record(GOOD, **{"lint.waive": {"doc": "an internal type"}}), None),
]  # fmt: skip


def test_nothing_is_found_where_all_is_right() -> None:
    assert found(RIGHT) == []
    assert found(RIGHT, RIGHT) == []


@pytest.mark.parametrize(("code", "where", "schema", "before"), CASES)
def test_a_rule_finds_what_it_is_there_for(code: str, where: str, schema: Any, before: Any) -> None:
    hits = [one for one in found(schema, before) if one.rule == code]
    assert [one.field for one in hits] == [where]
    assert all(one.message and one.reason and not one.waived for one in hits)


def test_every_rule_is_shown() -> None:
    assert {rule.code for rule in all_rules()} == {case[0] for case in CASES}


@pytest.mark.parametrize(
    ("new", "before"),
    [
        (record(GOOD, field("more", "int", default=0)), record(GOOD)),
        (record(field("key", "string", aliases=["id"])), record(GOOD)),
        (record(GOOD, name="shop.New"), record(name="shop.Old")),
        (record(field("sub", record(field("x", "int"), name="shop.Sub"))), record(name="shop.Thing", fields=[])),
    ],
)  # fmt: skip
def test_what_is_no_added_field_without_default(new: Any, before: Any) -> None:
    hits = [one.field for one in found(new, before) if one.rule == "added-field-default"]
    assert hits == (["sub"] if "sub" in json.dumps(new) else [])


def test_a_waiver_with_a_reason_holds_at_its_node_and_inside_it() -> None:
    inner = {"name": "x", "type": {"type": "array", "items": {"type": "record", "name": "In", "fields": [
        {"name": "y", "type": "int"}]}}, "doc": "An x.", "lint.waive": {"doc": "generated"}}  # fmt: skip
    schema = record(inner, {"name": "z", "type": "int"})
    assert [(one.field, one.waived) for one in found(schema)] == [("x[].y", "generated"), ("z", "")]


def test_a_waiver_of_one_rule_is_none_of_another() -> None:
    schema = record({"name": "class", "type": "string", "lint.waive": {"doc": "told in the guide"}})
    assert [(one.rule, bool(one.waived)) for one in found(schema)] == [("reserved-word", False), ("doc", True)]


def test_places_are_pointers_into_the_text() -> None:
    schema = record(field("parts", ["null", {"type": "map", "values": enum("A", name="shop.E")}], default=None))
    (hit,) = [one for one in found(schema) if one.rule == "enum-default"]
    here: Any = schema
    for part in hit.path.split("/")[1:]:
        here = here[int(part)] if isinstance(here, list) else here[part]
    assert here["name"] == "shop.E"


@pytest.mark.parametrize("schema", ["int", ["null", "int"], {"type": "array", "items": "int"}, {"type": "long"}])
def test_schemas_that_are_no_records(schema: Any) -> None:
    assert found(schema) == []


@pytest.mark.parametrize("file", sorted(SCHEMAS.glob("*/v*.avsc")), ids=lambda one: f"{one.parent.name} {one.name}")
def test_the_projects_own_contracts(file: Any) -> None:
    assert lint(read_any(file)) == []
