"""Static compatibility: each rule of the Avro specification's schema resolution, both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest
from schema_folder import record

from broker_bridge.contracts import Mode, check, parse_contract
from broker_bridge.contracts.compatibility import can_read

NO_DEFAULT = ["READER_FIELD_MISSING_DEFAULT_VALUE"]
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
    assert all(problem.field.startswith("x") for problem in problems)
    return [problem.kind for problem in problems]


@pytest.mark.parametrize("writer", PRIMITIVES)
@pytest.mark.parametrize("reader", PRIMITIVES)
def test_primitives(reader: str, writer: str) -> None:
    fits = reader == writer or (writer, reader) in PROMOTED
    assert kinds(reader, writer) == ([] if fits else ["TYPE_MISMATCH"])
    assert kinds({"type": "array", "items": reader}, {"type": "array", "items": writer}) == (
        [] if fits else ["TYPE_MISMATCH"]
    )
    assert kinds(["null", reader] if reader != "null" else ["null"], writer) == (
        [] if fits or writer == "null" else ["MISSING_UNION_BRANCH"]
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
        (array("int"), mapped("int"), ["TYPE_MISMATCH"]),
        (mapped("long"), mapped("int"), []),
        (mapped("int"), mapped("long"), ["TYPE_MISMATCH"]),
        (array(array("string")), array(array("bytes")), []),
        (array(array("int")), array(array("bytes")), ["TYPE_MISMATCH"]),
        # enums: names, symbols, default
        (enum("A", "B"), enum("A"), []),
        (enum("A"), enum("A", "B"), ["MISSING_ENUM_SYMBOLS"]),
        (enum("A", default="A"), enum("A", "B"), []),
        # the reader's default counts, not the writer's
        (enum("A"), enum("A", "B", default="A"), ["MISSING_ENUM_SYMBOLS"]),
        (enum("A", name="other"), enum("A"), ["NAME_MISMATCH"]),
        (enum("A", name="n.E"), enum("A", name="m.E"), []),  # unqualified names
        (enum("A", name="G", aliases=["E"]), enum("A"), []),
        (enum("A", name="n.G", aliases=["E"]), enum("A", name="n.E"), []),
        (enum("A", name="n.G", aliases=["E"]), enum("A", name="m.E"), ["NAME_MISMATCH"]),
        (enum("A"), "string", ["TYPE_MISMATCH"]),
        ("string", enum("A"), ["TYPE_MISMATCH"]),
        # fixed: name and size
        (fixed(4), fixed(4), []),
        (fixed(4), fixed(5), ["FIXED_SIZE_MISMATCH"]),
        (fixed(4, "G"), fixed(4), ["NAME_MISMATCH"]),
        (fixed(4, "G", aliases=["F"]), fixed(4), []),
        (fixed(4), "bytes", ["TYPE_MISMATCH"]),
        ("bytes", fixed(4), ["TYPE_MISMATCH"]),
        # records
        (inner(("a", "int")), inner(("a", "int")), []),
        (inner(("a", "long")), inner(("a", "int")), []),
        (inner(("a", "int")), inner(("a", "string")), ["TYPE_MISMATCH"]),
        (inner(("a", "int"), ("b", "int")), inner(("b", "int"), ("a", "int")), []),
        (inner(), inner(("a", "int")), []),
        (inner(("a", "int")), inner(), NO_DEFAULT),
        (inner(("a", "int", 1)), inner(), []),
        (inner(("a", ["null", "int"], None)), inner(), []),
        (inner(("a", ["null", "int"])), inner(), NO_DEFAULT),
        (inner(name="S"), inner(), ["NAME_MISMATCH"]),
        (inner(name="S", aliases=["R"]), inner(), []),
        (inner({"name": "b", "type": "int", "aliases": ["a"]}), inner(("a", "int")), []),
        (inner({"name": "b", "type": "int", "aliases": ["a"]}), inner(("a", "string")), ["TYPE_MISMATCH"]),
        (inner({"name": "b", "type": "int", "aliases": ["c"]}), inner(("a", "int")), NO_DEFAULT),
        # a field's own name goes before another's alias
        (inner(("a", "int"), {"name": "b", "type": "int", "aliases": ["c"]}), inner(("a", "int"), ("c", "int")), []),
        (inner(("a", "int")), mapped("int"), ["TYPE_MISMATCH"]),
        # unions
        (["null", "int"], ["null", "int"], []),
        (["int", "null"], ["null", "int"], []),
        (["null", "long"], ["null", "int"], []),
        (["null", "int", "string"], ["null", "int"], []),
        (["null", "int"], ["null", "int", "string"], ["MISSING_UNION_BRANCH"]),
        (["null", "int"], "int", []),
        (["null", "int"], "boolean", ["MISSING_UNION_BRANCH"]),
        ("int", ["int"], []),
        ("int", ["null", "int"], ["TYPE_MISMATCH"]),
        ("double", ["int", "long", "float"], []),
        (["null", inner(("a", "int"))], inner(("a", "int")), []),
        (["null", inner(("a", "int"))], inner(), ["MISSING_UNION_BRANCH"]),
        (["null", inner(("a", "int"), name="S")], inner(("a", "int")), ["MISSING_UNION_BRANCH"]),
        (["null", enum("A")], enum("A", "B"), ["MISSING_UNION_BRANCH"]),
        ([array("int"), mapped("int")], array("int"), []),
        (["null", array("int")], array("long"), ["MISSING_UNION_BRANCH"]),
        # logical types
        (decimal(9, 2), decimal(9, 2), []),
        (decimal(9, 2), decimal(8, 2), ["DECIMAL_MISMATCH"]),
        (decimal(9, 2), decimal(9, 3), ["DECIMAL_MISMATCH"]),
        (decimal(9, 2), "bytes", []),
        ("bytes", decimal(9, 2), []),
        (logical("long", "timestamp-millis"), "long", []),
        ("long", logical("long", "timestamp-millis"), []),
        (logical("long", "timestamp-micros"), logical("long", "timestamp-millis"), ["LOGICAL_TYPE_MISMATCH"]),
        (logical("long", "timestamp-micros"), logical("int", "date"), ["LOGICAL_TYPE_MISMATCH"]),
        (logical("int", "unheard-of"), logical("int", "date"), []),
    ],
)  # fmt: skip
def test_rules(reader: Any, writer: Any, expected: list[str]) -> None:
    assert kinds(reader, writer) == expected


def tree(value: str, *more: Any) -> Any:
    return contract(("value", value), ("children", array("T")), *more)


def test_recursive_records() -> None:
    assert can_read(tree("long"), tree("int")) == []
    assert [one.path for one in can_read(tree("int"), tree("long"))] == ["/fields/0/type"]
    assert [one.kind for one in can_read(tree("int", ("x", "int")), tree("int"))] == [
        "READER_FIELD_MISSING_DEFAULT_VALUE"
    ]


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
    assert kinds([wide], writer) == ["MISSING_UNION_BRANCH"]


def test_problems_say_where_and_between_which() -> None:
    reader = contract(("lines", array(inner(("sku", "int")))), where="new.avsc")
    writer = contract(("lines", array(inner(("sku", "string")))), where="old.avsc")
    (problem,) = can_read(reader, writer)
    assert (problem.kind, problem.path, problem.field, problem.reader, problem.writer) == (
        "TYPE_MISMATCH",
        "/fields/0/type/items/fields/0/type",
        "lines[].sku",
        "new.avsc",
        "old.avsc",
    )
    assert str(problem) == (
        "lines[].sku: string cannot be read as int: keep the type, or add a field of another name "
        "(writer old.avsc, reader new.avsc)"
    )


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
