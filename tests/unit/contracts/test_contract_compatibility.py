"""Static compatibility: each rule of the Avro specification's schema resolution, both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest
from schema_folder import record

from broker_bridge.contracts import Mode, check, parse_contract
from broker_bridge.contracts.compatibility import can_read

PRIMITIVES = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"]
PROMOTED = {
    ("int", "long"), ("int", "float"), ("int", "double"), ("long", "float"), ("long", "double"), ("float", "double"),
    ("string", "bytes"), ("bytes", "string"),
}  # fmt: skip


def contract(*fields: Any, where: str = "s", **more: Any) -> Any:
    return parse_contract(json.dumps(record(*fields, **more)), where=where)


def kinds(reader: Any, writer: Any) -> list[str]:
    """The problems of reading one field of type ``writer`` as ``reader``."""
    problems = can_read(contract(("x", reader)), contract(("x", writer)))
    assert all(problem.path.startswith("x") for problem in problems)
    return [problem.kind for problem in problems]


@pytest.mark.parametrize("writer", PRIMITIVES)
@pytest.mark.parametrize("reader", PRIMITIVES)
def test_primitives(reader: str, writer: str) -> None:
    fits = reader == writer or (writer, reader) in PROMOTED
    assert kinds(reader, writer) == ([] if fits else ["type"])
    assert kinds({"type": "array", "items": reader}, {"type": "array", "items": writer}) == ([] if fits else ["type"])
    assert kinds(["null", reader] if reader != "null" else ["null"], writer) == (
        [] if fits or writer == "null" else ["type"]
    )


def enum(*symbols: str, name: str = "E", **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": name, "symbols": list(symbols), **more}


def fixed(size: int, name: str = "F", **more: Any) -> dict[str, Any]:
    return {"type": "fixed", "name": name, "size": size, **more}


def array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def mapped(values: Any) -> dict[str, Any]:
    return {"type": "map", "values": values}


def inner(*fields: Any, name: str = "R", **more: Any) -> dict[str, Any]:
    return record(*fields, name=name, **more)


def decimal(precision: int, scale: int) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


def logical(kind: str, name: str) -> dict[str, Any]:
    return {"type": kind, "logicalType": name}


@pytest.mark.parametrize(
    ("reader", "writer", "expected"),
    [
        (array("int"), mapped("int"), ["type"]),
        (mapped("long"), mapped("int"), []),
        (mapped("int"), mapped("long"), ["type"]),
        (array(array("string")), array(array("bytes")), []),
        (array(array("int")), array(array("bytes")), ["type"]),
        # enums: names, symbols, default
        (enum("A", "B"), enum("A"), []),
        (enum("A"), enum("A", "B"), ["enum_symbols"]),
        (enum("A", default="A"), enum("A", "B"), []),
        (enum("A"), enum("A", "B", default="A"), ["enum_symbols"]),  # the reader's default counts, not the writer's
        (enum("A", name="other"), enum("A"), ["name"]),
        (enum("A", name="n.E"), enum("A", name="m.E"), []),  # unqualified names
        (enum("A", name="G", aliases=["E"]), enum("A"), []),
        (enum("A", name="n.G", aliases=["E"]), enum("A", name="n.E"), []),
        (enum("A", name="n.G", aliases=["E"]), enum("A", name="m.E"), ["name"]),
        (enum("A"), "string", ["type"]),
        ("string", enum("A"), ["type"]),
        # fixed: name and size
        (fixed(4), fixed(4), []),
        (fixed(4), fixed(5), ["fixed_size"]),
        (fixed(4, "G"), fixed(4), ["name"]),
        (fixed(4, "G", aliases=["F"]), fixed(4), []),
        (fixed(4), "bytes", ["type"]),
        ("bytes", fixed(4), ["type"]),
        # records
        (inner(("a", "int")), inner(("a", "int")), []),
        (inner(("a", "long")), inner(("a", "int")), []),
        (inner(("a", "int")), inner(("a", "string")), ["type"]),
        (inner(("a", "int"), ("b", "int")), inner(("b", "int"), ("a", "int")), []),
        (inner(), inner(("a", "int")), []),
        (inner(("a", "int")), inner(), ["field_without_default"]),
        (inner(("a", "int", 1)), inner(), []),
        (inner(("a", ["null", "int"], None)), inner(), []),
        (inner(("a", ["null", "int"])), inner(), ["field_without_default"]),
        (inner(name="S"), inner(), ["name"]),
        (inner(name="S", aliases=["R"]), inner(), []),
        (inner({"name": "b", "type": "int", "aliases": ["a"]}), inner(("a", "int")), []),
        (inner({"name": "b", "type": "int", "aliases": ["a"]}), inner(("a", "string")), ["type"]),
        (inner({"name": "b", "type": "int", "aliases": ["c"]}), inner(("a", "int")), ["field_without_default"]),
        # a field's own name goes before another's alias
        (inner(("a", "int"), {"name": "b", "type": "int", "aliases": ["c"]}), inner(("a", "int"), ("c", "int")), []),
        (inner(("a", "int")), mapped("int"), ["type"]),
        # unions
        (["null", "int"], ["null", "int"], []),
        (["int", "null"], ["null", "int"], []),
        (["null", "long"], ["null", "int"], []),
        (["null", "int", "string"], ["null", "int"], []),
        (["null", "int"], ["null", "int", "string"], ["type"]),
        (["null", "int"], "int", []),
        (["null", "int"], "boolean", ["type"]),
        ("int", ["int"], []),
        ("int", ["null", "int"], ["type"]),
        ("double", ["int", "long", "float"], []),
        (["null", inner(("a", "int"))], inner(("a", "int")), []),
        (["null", inner(("a", "int"))], inner(), ["type"]),
        (["null", inner(("a", "int"), name="S")], inner(("a", "int")), ["type"]),
        (["null", enum("A")], enum("A", "B"), ["enum_symbols"]),
        ([array("int"), mapped("int")], array("int"), []),
        (["null", array("int")], array("long"), ["type"]),
        # logical types
        (decimal(9, 2), decimal(9, 2), []),
        (decimal(9, 2), decimal(8, 2), ["decimal"]),
        (decimal(9, 2), decimal(9, 3), ["decimal"]),
        (decimal(9, 2), "bytes", []),
        ("bytes", decimal(9, 2), []),
        (logical("long", "timestamp-millis"), "long", []),
        ("long", logical("long", "timestamp-millis"), []),
        (logical("long", "timestamp-micros"), logical("long", "timestamp-millis"), ["logical_type"]),
        (logical("long", "timestamp-micros"), logical("int", "date"), ["logical_type"]),
        (logical("int", "unheard-of"), logical("int", "date"), []),
    ],
)  # fmt: skip
def test_rules(reader: Any, writer: Any, expected: list[str]) -> None:
    assert kinds(reader, writer) == expected


def tree(value: str, *more: Any) -> Any:
    return contract(("value", value), ("children", array("T")), *more)


def test_recursive_records() -> None:
    assert can_read(tree("long"), tree("int")) == []
    assert [one.path for one in can_read(tree("int"), tree("long"))] == ["value"]
    assert [one.kind for one in can_read(tree("int", ("x", "int")), tree("int"))] == ["field_without_default"]


def test_types_used_many_times_are_compared_once() -> None:
    """Each type twice in the next: 2 to the 40th comparisons without a memory."""
    fields: list[Any] = [("r0", inner(("a", "int"), name="R0"))]
    fields += [(f"r{n}", inner(("a", f"R{n - 1}"), ("b", f"R{n - 1}"), name=f"R{n}")) for n in range(1, 41)]
    assert can_read(contract(*fields), contract(*fields)) == []


def test_a_failed_branch_leaves_no_trace() -> None:
    """The writer's record fits the second branch only; what the first try took for granted must not count."""
    wide = inner(("a", "int"), ("self", ["null", "n.R"]), name="n.R")
    narrow = inner(("self", ["null", "m.R"]), name="m.R")
    writer = inner(("self", ["null", "o.R"]), name="o.R")
    assert kinds([wide, narrow], writer) == []
    assert kinds([wide], writer) == ["type"]


def test_problems_say_where_and_between_which() -> None:
    reader = contract(("lines", array(inner(("sku", "int")))), where="new.avsc")
    writer = contract(("lines", array(inner(("sku", "string")))), where="old.avsc")
    (problem,) = can_read(reader, writer)
    assert (problem.kind, problem.path, problem.reader, problem.writer) == (
        "type",
        "lines[].sku",
        "new.avsc",
        "old.avsc",
    )
    assert str(problem) == "lines[].sku: string cannot be read as int (writer old.avsc, reader new.avsc)"


def test_modes() -> None:
    plain, added = contract(where="1"), contract(("x", "int"), where="2")
    optional = contract(("x", "int", 0), where="3")
    assert check(added, [plain], Mode.BACKWARD)
    assert not check(added, [plain], Mode.FORWARD)
    assert check(added, [plain], Mode.FULL)
    assert not check(optional, [plain], Mode.FULL)
    assert not check(added, [plain], Mode.NONE)
    assert not check(added, [plain, optional], Mode.BACKWARD), "only the last counts"
    assert check(added, [plain, optional], Mode.BACKWARD_TRANSITIVE)
    assert not check(plain, [added, optional], Mode.FORWARD)
    assert [one.writer for one in check(plain, [added, optional], Mode.FORWARD_TRANSITIVE)] == ["1"]
    assert [one.reader for one in check(plain, [added, optional], Mode.FULL_TRANSITIVE)] == ["2"]
    assert not check(added, [], Mode.FULL_TRANSITIVE)
