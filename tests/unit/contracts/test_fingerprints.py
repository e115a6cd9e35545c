"""Canonical forms and fingerprints as the vectors of Avro for Java and Python have them.

Two vectors found there are left out. Rust's of a record with a timestamp keeps `{"type": "long"}`, where the rule
PRIMITIVES makes it `"long"`. One of Python's writes a fixed type out a second time, where FULLNAMES leaves its name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from avro_strategies import contracts
from fastavro.schema import to_parsing_canonical_form
from hypothesis import given, settings

from broker_bridge.contracts.any_schema import parse_any
from broker_bridge.contracts.contract import canonical_sha256
from broker_bridge.contracts.fingerprints import fingerprints

VECTORS = [
    json.loads(line) for line in Path(__file__).with_name("published_fingerprints.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda one: json.dumps(one["schema"]))
def test_published_vectors(vector: dict[str, Any]) -> None:
    found = fingerprints(parse_any(json.dumps(vector["schema"])))
    for key in ("canonical", "crc64", "sha256"):
        assert getattr(found, key) == vector.get(key, getattr(found, key))
    assert int.from_bytes(bytes.fromhex(found.crc64_wire), "little", signed=True) == found.crc64


def test_the_vectors_are_all_there() -> None:
    counts = [sum(key in one for one in VECTORS) for key in ("canonical", "crc64", "sha256")]
    assert counts == [34, 49, 23], "a lost line would pass in silence"


def test_single_object_header_of_an_int() -> None:
    assert fingerprints(parse_any('{"type": "int"}')).crc64_wire == "8f5c393f1ad57572"


FIXED = {"type": "fixed", "name": "F", "size": 4, "logicalType": "x"}
NESTED = {
    "type": "record",
    "name": "R",
    "namespace": "n",
    "fields": [{"name": "i", "type": {**FIXED, "namespace": ""}}],
}
TOLD = {"type": "record", "name": "n.R", "fields": [{"name": "r", "type": ["null", "R"], "default": None}]}


@pytest.mark.parametrize(
    ("schema", "canonical"),
    [
        ({"type": {"type": {"type": "int"}}}, '"int"'),
        ({"type": "long", "logicalType": "timestamp-micros"}, '"long"'),
        (FIXED, '{"name":"F","type":"fixed","size":4}'),
        (
            {"type": "enum", "name": "n.E", "namespace": "x", "symbols": ["A"]},
            '{"name":"n.E","type":"enum","symbols":["A"]}',
        ),
        (TOLD, '{"name":"n.R","type":"record","fields":[{"name":"r","type":["null","n.R"]}]}'),
        (NESTED, '{"name":"n.R","type":"record","fields":[{"name":"i","type":{"name":"F","type":"fixed","size":4}}]}'),
    ],
)
def test_rules_of_the_form(schema: Any, canonical: str) -> None:
    assert fingerprints(parse_any(json.dumps(schema))).canonical == canonical


def test_escapes_are_read() -> None:
    assert fingerprints(parse_any('"\\u0069nt"')).canonical == '"int"'


@given(contracts())
@settings(deadline=None, max_examples=60)
def test_fastavro_has_the_same_form(case: tuple[Any, list[Any]]) -> None:
    found = fingerprints(parse_any(json.dumps(case[0])))
    assert found.canonical == to_parsing_canonical_form(case[0])
    assert found.sha256 == canonical_sha256(case[0])
