"""The check of schemas answers as other implementations' own test suites say it should."""

from __future__ import annotations

import json
from typing import Any

import pytest
from published_compatibility import (
    ABC,
    MODES,
    REGISTRY,
    VALIDATION,
    VALIDATION_MODES,
    arr,
    cases,
    enum,
    fixed,
    rec,
    verdicts,
)

from broker_bridge.contracts import Mode, check, parse_contract
from broker_bridge.contracts.any_schema import parse_any
from broker_bridge.contracts.compatibility import can_read
from broker_bridge.errors import ContractError


def schema(raw: Any, where: str = "s") -> Any:
    return parse_any(json.dumps(raw), where=where)


def title(case: tuple[Any, ...]) -> str:
    return f"{json.dumps(case[1])} reads {json.dumps(case[2])}"


@pytest.mark.parametrize("case", cases(), ids=title)
def test_kinds_and_places_of_java(case: tuple[str, Any, Any, tuple[tuple[str, str], ...]]) -> None:
    _, reader, writer, expected = case
    found = can_read(schema(reader), schema(writer))
    assert [(one.kind, one.path) for one in found] == list(expected)
    assert all(one.message for one in found)


@pytest.mark.parametrize("case", verdicts(), ids=title)
def test_verdicts_of_others(case: tuple[str, Any, Any, bool]) -> None:
    _, reader, writer, fits = case
    assert (not can_read(schema(reader), schema(writer))) is fits


@pytest.mark.parametrize(("mode", "new", "earlier", "fits"), MODES)
def test_modes_of_the_registry(mode: str, new: int, earlier: list[int], fits: bool) -> None:
    found = check(schema(REGISTRY[new]), [schema(REGISTRY[one]) for one in earlier], Mode(mode))
    assert (not found) is fits


@pytest.mark.parametrize(("mode", "new", "earlier", "fits"), VALIDATION_MODES)
def test_modes_of_the_validator(mode: str, new: int, earlier: list[int], fits: bool) -> None:
    found = check(schema(VALIDATION[new]), [schema(VALIDATION[one]) for one in earlier], Mode(mode))
    assert (not found) is fits


def decimal(precision: int, scale: int, **more: Any) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale, **more}


def fixed_decimal(precision: int, scale: int) -> dict[str, Any]:
    return fixed("F", 8) | {"logicalType": "decimal", "precision": precision, "scale": scale}


CROSSED = rec(
    "R",
    {"name": "field1", "aliases": ["field2"], "type": "string"},
    {"name": "field2", "aliases": ["field1"], "type": "int"},
)


@pytest.mark.parametrize(
    ("reader", "writer", "kinds"),
    [
        # Java and the registry take these four; the specification has decimals match by precision and scale, as Rust
        # does, and the last two change what every value means.
        (decimal(4, 2), decimal(5, 2), ["DECIMAL_MISMATCH"]),
        (fixed_decimal(4, 2), fixed_decimal(4, 0), ["DECIMAL_MISMATCH"]),
        ({"type": "long", "logicalType": "timestamp-micros"}, {"type": "long", "logicalType": "timestamp-millis"},
         ["LOGICAL_TYPE_MISMATCH"]),
        ({"type": "long", "logicalType": "timestamp-millis"}, {"type": "int", "logicalType": "date"},
         ["LOGICAL_TYPE_MISMATCH"]),
        # Java's check takes it, and Java cannot read it: the alias takes the field away from its own name
        (rec("R", {"name": "a", "aliases": ["b"], "type": "int"}, ("b", "int")), rec("R", ("b", "int")),
         ["READER_FIELD_MISSING_DEFAULT_VALUE"]),
        # Ruby and Rust read a decimal of bytes as one of a fixed type; the registry does not
        (decimal(4, 2), fixed_decimal(4, 2), ["TYPE_MISMATCH"]),
        # C# looks at the names of enums only
        (enum("E", "A"), enum("E", "AB"), ["MISSING_ENUM_SYMBOLS"]),
        # Avro for Java's other check, SchemaValidator, matches by structure; the registry matches by name
        (rec("crcl", ("radius", "double")), rec("Circle", ("radius", "double")), ["NAME_MISMATCH"]),
        # an exception in Java's check, which the registry turns into "incompatible"
        (CROSSED, rec("R", ("field1", "string"), ("field2", "int")), ["AMBIGUOUS_ALIAS", "AMBIGUOUS_ALIAS"]),
        # a decimal with impossible digits is plain bytes
        (decimal(2, 3), decimal(5, 2), []),
        (fixed_decimal(40, 2), fixed_decimal(4, 2), []),
    ],
)  # fmt: skip
def test_where_they_differ(reader: Any, writer: Any, kinds: list[str]) -> None:
    assert [one.kind for one in can_read(schema(reader), schema(writer))] == kinds


A = ("a", "int")


@pytest.mark.parametrize(
    ("old", "new", "backward", "forward"),
    [
        ([A], [A, ("b", "int", 0)], True, True),
        ([A], [A, ("b", "int")], False, True),
        ([A, ("b", "int", 0)], [A], True, True),
        ([A, ("b", "int")], [A], True, False),
        ([A], [{"name": "b", "type": "int", "aliases": ["a"]}], True, False),
        ([A], [("a", "long")], True, False),
        ([("a", "string")], [("a", "bytes")], True, True),
        ([("a", enum("E", "A"))], [("a", enum("E", "AB"))], True, False),
        ([("a", enum("E", "A", default="A"))], [("a", enum("E", "AB", default="A"))], True, True),
        ([A], [("a", ["null", "int"], None)], True, False),
        ([("a", ["int", "null"])], [("a", ["int", "null", "string"])], True, False),
        ([("a", decimal(9, 2))], [("a", decimal(10, 2))], False, False),
    ],
)
def test_the_guides_table_of_changes(old: list[Any], new: list[Any], backward: bool, forward: bool) -> None:
    before, after = schema(rec("R", *old)), schema(rec("R", *new))
    assert [not check(after, [before], mode) for mode in (Mode.BACKWARD, Mode.FORWARD, Mode.FULL)] == [
        backward,
        forward,
        backward and forward,
    ]


def test_a_wrong_default_does_not_hide_an_old_version() -> None:
    old = parse_any(json.dumps(rec("R", ("a", "int", "none"))), defaults=False)
    assert check(schema(rec("R", ("a", "int"))), [old], Mode.BACKWARD) == []


# --- hostile shapes ------------------------------------------------------------------------------------------------


def chain(length: int, last: Any, *, union: bool = False) -> dict[str, Any]:
    """Records that refer to the one before, so that the text is flat and the type is deep."""
    fields: list[Any] = [("r0", rec("R0", ("x", last)))]
    for number in range(1, length):
        below: Any = ["null", f"R{number - 1}"] if union else f"R{number - 1}"
        fields.append((f"r{number}", rec(f"R{number}", ("a", below), ("b", below))))
    return rec("T", *fields)


@pytest.mark.parametrize("union", [False, True])
def test_a_chain_of_two_thousand_types(union: bool) -> None:
    """Twice each type in the next: 2 to the 2 000th ways down, and a thousand frames would end Python."""
    longs, ints = schema(chain(2000, "long", union=union)), schema(chain(2000, "int", union=union))
    assert can_read(longs, ints) == []
    found = can_read(ints, longs)
    assert found[0].kind == "TYPE_MISMATCH"
    assert found[0].path == "/fields/0/type/fields/0/type"
    assert all(len(one.message) < 2_000 for one in found)


def test_unions_and_enums_of_ten_thousand() -> None:
    many = [rec(f"R{number}", ("a", "int")) for number in range(10_000)]
    less = many[:-1]
    assert can_read(schema(many), schema(list(reversed(many)))) == []
    assert [one.path for one in can_read(schema(less), schema(many))] == ["/9999"]
    symbols = [f"S{number}" for number in range(10_000)]
    wide = {"type": "enum", "name": "E", "symbols": symbols}
    assert can_read(schema(wide), schema(wide)) == []
    (problem,) = can_read(schema({**wide, "symbols": ["S0"]}), schema(wide))
    assert "and 9991 more" in problem.message


def test_reasons_are_limited() -> None:
    names = [f"f{number}" for number in range(5_000)]
    assert len(can_read(schema(rec("R", *((name, "int") for name in names))), schema(rec("R")))) == 1_000


def test_a_failure_inside_a_recursion_is_found_whichever_way_round() -> None:
    """What is taken for granted on the way down is taken back when it turns out wrong."""

    def pair(leaf: str, order: bool) -> Any:
        fields: list[tuple[str, Any]] = [("x", leaf), ("n", ["null", "A"])]
        return rec("A", ("b", rec("B", *(fields if order else reversed(fields)))), ("again", "B"))

    for order in (False, True):
        found = can_read(schema(pair("int", order)), schema(pair("long", order)))
        assert "TYPE_MISMATCH" in {one.kind for one in found}
        assert can_read(schema(["null", pair("int", order)]), schema(pair("long", order)))


def test_a_recursive_branch_is_no_reason_of_its_own() -> None:
    """The union cannot take the record because of its other field: that one is told, as Java tells it."""

    def node(kind: str) -> Any:
        return rec("Node", ("value", kind), ("next", ["null", "Node"]), ("all", {"type": "map", "values": ["Node"]}))

    assert [one.path for one in can_read(schema(node("int")), schema(node("long")))] == ["/fields/0/type"]


def test_a_bare_name_may_mean_a_type_without_a_namespace() -> None:
    """Avro for Java reads it; a contract has to say it rightly."""
    inner = rec("n.Inner", ("back", ["null", "Outer"]))
    assert can_read(schema(rec("Outer", ("inner", inner))), schema(rec("Outer", ("inner", inner)))) == []
    with pytest.raises(ContractError, match="no type is called 'Outer'"):
        parse_contract(json.dumps(rec("Outer", ("inner", inner))))


def test_messages_name_what_a_branch_lacks() -> None:
    def order(kind: str) -> Any:
        return rec("T", ("line", ["null", rec("Line", ("sku", kind))]))

    (problem,) = can_read(schema(order("int")), schema(order("string")))
    assert (problem.kind, problem.path, problem.field) == ("MISSING_UNION_BRANCH", "/fields/0/type/1", "line")
    assert "at line.sku: string cannot be read as int" in problem.message


def test_an_array_in_the_way() -> None:
    assert [one.field for one in can_read(schema(arr(rec("R", ("a", ABC)))), schema(arr(rec("R", ("a", "int")))))] == [
        "[].a"
    ]
