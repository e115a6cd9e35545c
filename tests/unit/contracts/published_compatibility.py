"""Which reader reads which writer, as the test suites of other implementations state it.

The facts of Apache Avro for Java (`TestSchemaCompatibility…`, `TestSchemaValidation`), Python, Ruby, C# and Rust, and
of Confluent's registry, which answers with Avro for Java. `(who, reader, writer, kinds)`: the kinds of mismatch that
Java tells, with the place each is at; empty where every value can be read.
"""

from __future__ import annotations

from typing import Any

Case = tuple[str, Any, Any, tuple[tuple[str, str], ...]]

NAME, SIZE, SYMBOLS = "NAME_MISMATCH", "FIXED_SIZE_MISMATCH", "MISSING_ENUM_SYMBOLS"
DEFAULT, TYPE, BRANCH = "READER_FIELD_MISSING_DEFAULT_VALUE", "TYPE_MISMATCH", "MISSING_UNION_BRANCH"


def rec(name: str, *fields: Any, **more: Any) -> dict[str, Any]:
    """A record; a field is `(name, type)` or `(name, type, default)` or whole."""
    made = [
        one
        if isinstance(one, dict)
        else {"name": one[0], "type": one[1]} | ({"default": one[2]} if len(one) > 2 else {})
        for one in fields
    ]
    return {"type": "record", "name": name, "fields": made, **more}


def enum(name: str, symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": name, "symbols": list(symbols), **more}


def fixed(name: str, size: int, **more: Any) -> dict[str, Any]:
    return {"type": "fixed", "name": name, "size": size, **more}


def arr(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def maps(values: Any) -> dict[str, Any]:
    return {"type": "map", "values": values}


def means(kind: str, logical: str) -> dict[str, Any]:
    return {"type": kind, "logicalType": logical}


AB, ABC, BC, AB2 = enum("Enum1", "AB"), enum("Enum1", "ABC"), enum("Enum1", "BC"), enum("Enum2", "AB")
F4, F8, OTHER4 = fixed("Fixed", 4), fixed("Fixed", 8), fixed("AnotherName", 4)
EMPTY1, EMPTY2 = rec("Record1"), rec("Record2")
A, AL, AB_, AD = (
    rec("Record1", ("a", "int")),
    rec("Record1", ("a", "long")),
    rec("Record1", ("a", "int"), ("b", "int")),
    rec("Record1", ("a", "int", 0)),
)
A_BD, AD_BD = rec("Record1", ("a", "int"), ("b", "int", 0)), rec("Record1", ("a", "int", 0), ("b", "int", 0))
INT_LIST, LONG_LIST = rec("List", ("head", "int"), ("tail", "List")), rec("List", ("head", "long"), ("tail", "List"))
INT_ARRAYS, LONG_ARRAYS = (
    rec("List", ("head", "int"), ("tail", arr("int"))),
    rec("List", ("head", "long"), ("tail", arr("long"))),
)


def with_b(kind: Any, *default: Any) -> dict[str, Any]:
    return rec("Record1", ("a", "int", 0), ("b", kind, *default))


def enum_field(symbols: str, of_enum: str, *of_field: str) -> dict[str, Any]:
    return rec("Record", ("Field", enum("Schema", symbols, default=of_enum), *of_field))


def inner_of(space: str) -> dict[str, Any]:
    inner = rec("InnerRecord1", ("a", "int"), namespace=space)
    return rec("Record1", ("f1", ["null", arr(inner)]))


JAVA_COMPATIBLE: list[tuple[Any, Any]] = [
    *((kind, kind) for kind in ("null", "boolean", "int", "long", "string", "bytes")),
    ("long", "int"), ("float", "int"), ("float", "long"), ("double", "long"), ("double", "int"), ("double", "float"),
    ("string", "bytes"), ("bytes", "string"),
    (arr("int"), arr("int")), (arr("long"), arr("int")), (maps("int"), maps("int")), (maps("long"), maps("int")),
    (arr("string"), arr("string")),
    (AB, AB), (ABC, AB), (enum("Enum1", "AB", default="A"), ABC),
    (AB, enum("Enum1", "AB", namespace="namespace1")), (enum("Enum1", "AB", namespace="namespace1"), AB),
    (enum("Enum1", "AB", namespace="namespace1"), enum("Enum1", "AB", namespace="namespace2")),
    ([], []), (["float"], []), (["float"], ["int"]), (["float"], ["long"]), (["float"], ["int", "long"]),
    (["int"], ["int"]), (["int", "string"], ["string", "int"]), (["int"], []), (["long"], []), (["long"], ["int"]),
    (["double"], ["int"]), (["double"], ["long"]), (["double"], ["float"]), (["string"], []), (["string"], ["bytes"]),
    (["bytes"], []), (["bytes"], ["string"]), (["double"], ["int", "float"]),
    ("float", ["int", "float"]), ("long", ["int", "long"]), ("double", ["int", "float"]),
    ("double", ["int", "long", "float", "double"]), ("float", ["float"]), (["int"], "int"), ("int", ["int"]),
    (["null", arr("int")], arr("int")), (["null", maps("int")], maps("int")),
    (F4, F4), (EMPTY1, EMPTY1), (EMPTY1, A), (A, A), (AD, A), (AD, AD), (A, AD), (AL, A), (A, AB_), (AD, AB_),
    (A_BD, A), (AD_BD, EMPTY1), (AD_BD, A), (AB_, AD_BD),
    (INT_LIST, INT_LIST), (LONG_LIST, LONG_LIST), (LONG_LIST, INT_LIST),
    (enum_field("AB", "A"), enum_field("ABC", "A")), (enum_field("AB", "B", "A"), enum_field("ABC", "A", "B")),
    (inner_of("ns1"), inner_of("ns2")), (rec("Record", ("f1", "int")), rec("ns.Record", ("f1", "int"))),
]  # fmt: skip

OLD = rec("Record", ("oldfield1", "int"), ("oldfield2", "string"))
JAVA_COMPATIBLE += [
    (rec("Record", ("oldfield1", "int")), OLD),
    (rec("Record", ("oldfield2", "string")), OLD),
    (OLD, OLD),
    (rec("Record", ("oldfield1", "int"), ("newfield1", "int", 42)), OLD),
]


def place(name: str, extra: str) -> dict[str, Any]:
    inner = rec("r7", ("lat", "float"), (extra, ["null", "float"], None))
    return rec("table", ("location", ["null", maps(["null", inner])], None))


JAVA_COMPATIBLE.append((place("r7", "long_r2"), place("r7", "long")))
JAVA_COMPATIBLE.append((rec("Node", ("value", ["null", "Node"], None)), rec("Node", ("value", ["null", "Node"], None))))

ALL_TYPES = rec(
    "r", *((f"{kind}F", kind) for kind in ("boolean", "int", "long", "float", "double", "string", "bytes")),
    ("fixedF1", fixed("F1", 1)), ("enumF", enum("E1", "S")), ("mapF", maps("string")), ("arrayF", arr("string")),
    ("recordF", rec("inner", ("f", "int"))), ("boolO", ["null", "boolean"], None),
)  # fmt: skip
JAVA_COMPATIBLE.append((ALL_TYPES, ALL_TYPES))


def branches(*missing: int, at: str = "") -> tuple[tuple[str, str], ...]:
    return tuple((BRANCH, f"{at}/{number}") for number in missing)


REC1_AB, REC1_ABC = rec("Record1", ("field1", AB)), rec("Record1", ("field1", ABC))
REC_INT = {name: rec(name, ("field1", "int")) for name in ("Record1", "Record2")}
NUMBERS = ["int", "long", "float", "double"]

JAVA_INCOMPATIBLE: list[tuple[Any, Any, tuple[tuple[str, str], ...]]] = [
    (F4, F8, ((SIZE, "/size"),)), (F8, F4, ((SIZE, "/size"),)),
    (with_b(F8), with_b(F4), ((SIZE, "/fields/1/type/size"),)),
    (with_b(F4), with_b(F8), ((SIZE, "/fields/1/type/size"),)),
    (AB, ABC, ((SYMBOLS, "/symbols"),)), (BC, ABC, ((SYMBOLS, "/symbols"),)),
    (REC1_AB, REC1_ABC, ((SYMBOLS, "/fields/0/type/symbols"),)),
    (["int"], ["int", "string"], branches(1)), (["string"], ["int", "string"], branches(0)),
    (["int"], ["int", REC_INT["Record1"]], branches(1)), (["int"], ["int", REC_INT["Record2"]], branches(1)),
    (["int", REC_INT["Record1"]], ["int", REC_INT["Record2"]], branches(1)),
    (["int"], ["int", AB], branches(1)), (["int"], ["int", F4], branches(1)),
    (["int"], ["int", "boolean"], branches(1)),
    (["int"], ["long"], branches(0)), (["int"], ["float"], branches(0)), (["int"], ["double"], branches(0)),
    (["int"], ["bytes"], branches(0)), (["int"], ["int", arr("int")], branches(1)),
    (["int"], ["int", maps("int")], branches(1)), (["int"], ["int", "null"], branches(1)),
    (["int"], NUMBERS, branches(1, 2, 3)), (["int", "string"], ["int", "string", "long"], branches(2)),
    (with_b(["int"], 0), with_b(["int", "string"], 0), branches(1, at="/fields/1/type")),
    (AB, AB2, ((NAME, "/name"),)), (EMPTY2, EMPTY1, ((NAME, "/name"),)), (F4, OTHER4, ((NAME, "/name"),)),
    (with_b(AB), with_b(AB2), ((NAME, "/fields/1/type/name"),)),
    (A, EMPTY1, ((DEFAULT, "/fields/0"),)), (A_BD, EMPTY1, ((DEFAULT, "/fields/0"),)),
    (rec("Record", ("oldfield1", "int"), ("newfield1", "int")), OLD, ((DEFAULT, "/fields/1"),)),
    *((reader, writer, ((TYPE, "/"),)) for reader, writer in [
        ("null", "int"), ("null", "long"), ("boolean", "int"), ("int", "null"), ("int", "boolean"), ("int", "long"),
        ("int", "float"), ("int", "double"), ("long", "float"), ("long", "double"), ("float", "double"),
        ("double", "string"), (F4, "string"), ("string", "boolean"), ("string", "int"), ("bytes", "null"),
        ("bytes", "int"), (A, "int"), (maps("int"), arr("int")), (arr("int"), maps("int")), ("int", AB2), (AB2, "int"),
        (maps("string"), arr("string")), ("int", "string"),
    ]),
    (arr("int"), arr("long"), ((TYPE, "/items"),)), (maps("int"), maps("long"), ((TYPE, "/values"),)),
    ("float", NUMBERS, ((TYPE, "/3"),)), ("long", ["int", "float"], ((TYPE, "/1"),)),
    ("int", ["int", "float"], ((TYPE, "/1"),)), (INT_LIST, LONG_LIST, ((TYPE, "/fields/0/type"),)),
    (rec("Account", ("age", "int")), rec("Account", ("age", ["null", "int"], None)), ((TYPE, "/fields/0/type/0"),)),
]  # fmt: skip


def many(reader: bool) -> dict[str, Any]:
    """Nine things wrong at once."""
    a = rec(
        "recordA", ("A_field_0", "boolean", True), ("wrong_items", arr("string" if reader else "boolean")),
        namespace="not_nsA" if reader else "nsA",
    )  # fmt: skip
    sub = rec(
        "sub", ("same", "long", 42), *([("extra", "long")] if reader else []),
        ("size", fixed("sized", 4 if reader else 8)),
        ("branches", ["boolean"] if reader else ["boolean", "double", "string"]),
        ("not_in_union", ["boolean"] if reader else "long"), ("moved", a),
    )  # fmt: skip
    return rec(
        "base", ("symbols", enum("symbols_", "AC" if reader else "ABCD")),
        ("name", enum("name_" if reader else "name_ERR", "ABCD")), ("kind", "string" if reader else "long"),
        ("sub", sub),
    )  # fmt: skip


JAVA_INCOMPATIBLE.append((many(True), many(False), (
    (SYMBOLS, "/fields/0/type/symbols"), (NAME, "/fields/1/type/name"), (TYPE, "/fields/2/type"),
    (DEFAULT, "/fields/3/type/fields/1"), (SIZE, "/fields/3/type/fields/2/type/size"),
    (BRANCH, "/fields/3/type/fields/3/type/1"), (BRANCH, "/fields/3/type/fields/3/type/2"),
    (BRANCH, "/fields/3/type/fields/4/type"), (TYPE, "/fields/3/type/fields/5/type/fields/1/type/items"),
)))  # fmt: skip

_POINT = {
    "written": rec("Point", ("x", "double"), ("y", "double"), namespace="written"),
    "2d": rec("Point2D", ("x", "double"), ("y", "double")),
    "3d": rec("Point3D", ("x", "double"), ("y", "double"), ("z", "double", 0.0)),
    "3d, of its name": rec("Point", ("x", "double"), ("y", "double"), ("z", "double", 0.0)),
    "3d, no default": rec("Point", ("x", "double"), ("y", "double"), ("z", "double")),
}


def points(*names: str) -> list[Any]:
    return ["null", *(_POINT[name] for name in names)]


# By name alone: Avro for Java decodes the second and third by structure, its check of schemas does not.
JAVA_INCOMPATIBLE += [
    (points("3d, no default"), _POINT["written"], ((BRANCH, "/"),)),
    (points("3d, no default", "2d", "3d"), _POINT["written"], ((BRANCH, "/"),)),
    (points("3d, no default", "3d", "2d"), _POINT["written"], ((BRANCH, "/"),)),
]
JAVA_COMPATIBLE += [
    (points("2d", "3d, of its name", "3d"), _POINT["written"]),
    (points("2d", "3d, of its name", "3d", "written"), _POINT["written"]),
]

_F = ("f1", "long")
ALIASES: list[tuple[Any, Any, bool]] = [
    # Python and Ruby
    (rec("foo", {"name": "bar", "type": "int", "aliases": ["f1"]}), rec("foo", ("f1", "int"), ("f2", "string")), True),
    (rec("other", ("f1", "int"), aliases=["foo"]), rec("foo", ("f1", "int"), ("f2", "string")), True),
    (enum("Enum2", "AB", aliases=["Enum1"]), AB, True), (AB, enum("Enum2", "AB", aliases=["Enum1"]), False),
    (fixed("Fixed2", 2, aliases=["Fixed1"]), fixed("Fixed1", 2), True),
    (fixed("Fixed1", 2), fixed("Fixed2", 2, aliases=["Fixed1"]), False),
    (fixed("Fixed1", 2), fixed("Fixed1", 3), False),
    (rec("Record2", aliases=["Record1"]), EMPTY1, True), (EMPTY1, rec("Record2", aliases=["Record1"]), False),
    (rec("Record", {"name": "newname1", "aliases": ["oldfield1"], "type": "int"}, ("oldfield2", "string")), OLD, True),
    (OLD, rec("Record", {"name": "newname1", "aliases": ["oldfield1"], "type": "int"}, ("oldfield2", "string")), False),
    (rec("Record", {"name": "field1", "aliases": ["field9"], "type": "string"}, ("field2", "int")),
     rec("Record", ("field1", "int"), ("field2", "string")), False),
    # C#
    (enum("Symbols", "ABC"), enum("NewSymbols", "ABC"), False),
    (enum("Symbols", "ABC", aliases=["NewSymbols"]), enum("NewSymbols", "ABC"), True),
    (enum("Symbols", "ABC", aliases=["DiffSymbols", "OtherSymbols"]), enum("NewSymbols", "ABC"), False),
    (fixed("Fixed", 1, aliases=["NewFixed"]), fixed("NewFixed", 1), True),
    (fixed("Fixed", 1, aliases=["DiffFixed", "OtherFixed"]), fixed("NewFixed", 1), False),
    (rec("Rec", _F, ("f2", "int")), rec("NewRec", _F, ("f2", "int")), False),
    (rec("Rec", _F, ("f2", "int"), aliases=["NewRec"]), rec("NewRec", _F, ("f2", "int")), True),
    (rec("Rec", _F, ("f2", "int"), aliases=["OtherRec", "DiffRec"]), rec("NewRec", _F, ("f2", "int")), False),
    (rec("Rec", _F, ("f3", "int")), rec("Rec", _F, ("f2", "int")), False),
    (rec("Rec", _F, {"name": "f3", "type": "int", "aliases": ["f2"]}), rec("Rec", _F, ("f2", "int")), True),
    (rec("Rec", _F, {"name": "f3", "type": "int", "aliases": ["f4", "f5"]}), rec("Rec", _F, ("f2", "int")), False),
    (rec("Rec", ("f1", enum("Symbol", "A"))), rec("Rec", ("f1", enum("NewSymbol", "A"))), False),
    (rec("Rec", ("f1", enum("Symbol", "A", aliases=["NewSymbol"]))), rec("Rec", ("f1", enum("NewSymbol", "A"))), True),
    (rec("Rec", ("f1", enum("Symbol", "A", aliases=["Diff"]))), rec("Rec", ("f1", enum("NewSymbol", "A"))), False),
    (rec("Rec", {"name": "f2", "aliases": ["f1"], "type": enum("Symbol", "A", aliases=["NewSymbol"])},
         {"name": "f3", "aliases": ["f4"], "type": fixed("Fixed", 1, aliases=["NewFixed"])}, aliases=["NewRec"]),
     rec("NewRec", ("f1", enum("NewSymbol", "A")), ("f4", fixed("NewFixed", 1))), True),
    # Rust
    (rec("a.Conference", {"name": "date", "type": "long", "aliases": ["time"]}),
     rec("a.Conference", ("date", "long")), True),
    (rec("a.Conference", ("date", "long")),
     rec("a.Conference", {"name": "date", "type": "long", "aliases": ["time"]}), True),
    (rec("a.Conference", {"name": "date", "type": "long", "aliases": ["time"]}),
     rec("a.Conference", ("time", "long")), True),
    (rec("a.Conference", ("time", "long")),
     rec("a.Conference", {"name": "date", "type": "long", "aliases": ["time"]}), False),
]  # fmt: skip

_DATES = [("int", name) for name in ("date", "time-millis")]
_TIMES = [("long", "time-micros")]
_TIMES += [("long", f"{zone}timestamp-{unit}") for zone in ("", "local-") for unit in ("millis", "micros", "nanos")]
_NESTED = rec("parent", ("attribute", rec("child", ("id", "string"))))
_OPTIONAL = rec("parent", ("attribute", ["null", rec("child", ("id", "string"))], None))
_UUID16 = fixed("uuid_fixed", 16, logicalType="uuid")
_STATISTICS = [
    (rec("S", ("n", "int", 0), ("v", kind)), rec("S", ("n", "int", 0), ("v", ["null", kind], None)))
    for kind in (maps("int"), arr("int"))
]

RUST: list[tuple[Any, Any, bool]] = [
    *((kind, means(kind, name), True) for kind, name in _DATES + _TIMES),
    *((means(kind, name), kind, True) for kind, name in _DATES + _TIMES),
    *((means(kind, name), "string", False) for kind, name in _DATES + _TIMES),
    *((means(kind, name), "long", False) for kind, name in _DATES),
    (means("string", "uuid"), "string", True), ("string", means("string", "uuid"), True),
    (means("string", "uuid"), means("string", "uuid"), True),
    (means("bytes", "uuid"), "bytes", True), ("bytes", means("bytes", "uuid"), True),
    (_UUID16, _UUID16, True), (_UUID16, fixed("uuid_fixed", 16), True), (fixed("uuid_fixed", 16), _UUID16, True),
    (_OPTIONAL, _NESTED, True), (_NESTED, _OPTIONAL, False), (LONG_ARRAYS, INT_ARRAYS, True),
    (INT_ARRAYS, LONG_ARRAYS, False), (INT_ARRAYS, INT_ARRAYS, True),
    (rec("record_a", ("date", "long", 18181)), rec("record_a", ("date", "long")), True),
    (fixed("EmployeeId", 16, default="u00ffffffffffffx"), fixed("EmployeeId", 16), True),
    (enum("Enum1", "ABC", default="C"), AB, True),
    (rec("record_b", ("date", "long")), rec("record_a", ("date", "long")), False),
    (fixed("EmployeeId", 20), fixed("EmployeeId", 16), False), (AB2, AB, False),
    (fixed("EmployeeId", 16), rec("record_b", ("date", "long")), False),
    (fixed("Duration", 12, logicalType="duration"), fixed("Fixed25", 25), False),
    (fixed("Fixed25", 25), fixed("Duration", 12, logicalType="duration"), False),
    (enum("Suit", "ABCD", namespace="my"), enum("Suit", "ABC"), True),
    (rec("S", ("n", "int"), ("average", "int", 0), namespace="my"), rec("S", ("n", "int"), ("max", "int", 0)), True),
    (fixed("EmployeeId", 16, namespace="my"), fixed("EmployeeId", 16), True),
    (rec("ns.MyRecord", ("field1", "int")), rec("ns.MyRecord", ("field1", "string")), False),
    (rec("ns.MyRecord", ("field1", "string")), rec("ns.MyRecord", ("field1", "int")), False),
    *((reader, writer, True) for writer, reader in _STATISTICS),
    *((reader, writer, False) for reader, writer in _STATISTICS),
    (rec("t", ("c", enum("suit", "DSNH", default="S"))), rec("t", ("c", enum("suit", "DSCH", default="S"))), True),
    (rec("t", ("c", enum("suit", "HS", default="S"))), rec("t", ("c", enum("suit", "DSCH", default="S"))), True),
]  # fmt: skip


def cases() -> list[Case]:
    """Pairs with the kinds and places Java tells of them."""
    found: list[Case] = [("java", reader, writer, ()) for reader, writer in JAVA_COMPATIBLE]
    return found + [("java", reader, writer, kinds) for reader, writer, kinds in JAVA_INCOMPATIBLE]


def verdicts() -> list[tuple[str, Any, Any, bool]]:
    """Pairs of which only the verdict is stated."""
    found = [("aliases", reader, writer, fits) for reader, writer, fits in ALIASES]
    return found + [("rust", reader, writer, fits) for reader, writer, fits in RUST]


_ONE = ("f1", "string")
REGISTRY: dict[int, dict[str, Any]] = {
    1: rec("myrecord", _ONE),
    2: rec("myrecord", _ONE, ("f2", "string", "foo")),
    3: rec("myrecord", _ONE, ("f2", "string")),
    4: rec("myrecord", {"name": "f1_new", "type": "string", "aliases": ["f1"]}),
    6: rec("myrecord", ("f1", ["null", "string"])),
    7: rec("myrecord", ("f1", ["null", "string", "int"])),
    8: rec("myrecord", _ONE, ("f2", "string", "foo"), ("f3", "string", "bar")),
    9: rec("myrecord", _ONE, ("f2", "string"), ("f3", "string")),
    10: rec("myrecord", _ONE, ("f2", "string"), ("f3", "string", "foo")),
    11: rec("myrecord", _ONE, ("f2", ["null", "int"], None)),
}
"""Versions of one subject, as Confluent's tests have them."""

MODES: list[tuple[str, int, list[int], bool]] = [
    ("BACKWARD", 2, [1], True), ("BACKWARD", 3, [1], False), ("BACKWARD", 4, [1], True), ("BACKWARD", 6, [1], True),
    ("BACKWARD", 1, [6], False), ("BACKWARD", 7, [6], True), ("BACKWARD", 6, [7], False), ("BACKWARD", 3, [1, 2], True),
    ("BACKWARD", 9, [1, 3], False), ("BACKWARD", 10, [1, 3], True), ("BACKWARD", 3, [2], True),
    ("BACKWARD_TRANSITIVE", 8, [1, 2], True), ("BACKWARD_TRANSITIVE", 2, [1], True),
    ("BACKWARD_TRANSITIVE", 3, [2], True), ("BACKWARD_TRANSITIVE", 3, [2, 1], False),
    ("FORWARD", 2, [1], True), ("FORWARD", 3, [1], True), ("FORWARD", 3, [2], True), ("FORWARD", 2, [3], True),
    ("FORWARD", 1, [3, 2], True),
    ("FORWARD_TRANSITIVE", 1, [8, 2], True), ("FORWARD_TRANSITIVE", 2, [3], True), ("FORWARD_TRANSITIVE", 1, [2], True),
    ("FORWARD_TRANSITIVE", 1, [2, 3], False),
    ("FULL", 2, [1], True), ("FULL", 3, [1, 2], True), ("FULL", 1, [3, 2], True),
    ("FULL_TRANSITIVE", 8, [1, 2], True), ("FULL_TRANSITIVE", 1, [8, 2], True), ("FULL_TRANSITIVE", 2, [3], True),
    ("FULL_TRANSITIVE", 1, [2], True), ("FULL_TRANSITIVE", 2, [1], True), ("FULL_TRANSITIVE", 3, [2], True),
    ("FULL_TRANSITIVE", 3, [2, 1], False), ("FULL_TRANSITIVE", 1, [2, 3], False),
    ("NONE", 3, [1], True), ("NONE", 1, [6, 7], True),
]  # fmt: skip
"""Mode, new version, earlier versions (oldest first), and whether the registry takes it."""

_B, _C = ("b", "long"), ("c", "int", 0)
VALIDATION: dict[int, dict[str, Any]] = {
    1: rec("test.Rec", ("a", "int", 1), _B),
    2: rec("test.Rec", ("a", "int", 1), _B, _C),
    3: rec("test.Rec", _B, _C),
    4: rec("test.Rec", _B, ("c", "int")),
    5: rec("test.Rec", ("a", "string", ""), _B, _C),
}
"""Versions of `TestSchemaValidation`."""

VALIDATION_MODES: list[tuple[str, int, list[int], bool]] = [
    ("BACKWARD", 3, [1], True), ("BACKWARD", 5, [3], True), ("BACKWARD", 4, [1], False),
    ("BACKWARD_TRANSITIVE", 3, [1, 2], True), ("BACKWARD_TRANSITIVE", 4, [1, 2, 3], False),
    ("BACKWARD_TRANSITIVE", 5, [1, 2, 3], False),
    ("FORWARD", 1, [3], True), ("FORWARD", 1, [4], False),
    ("FORWARD_TRANSITIVE", 1, [3, 2], True), ("FORWARD_TRANSITIVE", 1, [4, 3, 2], False),
    ("FULL", 1, [3], True), ("FULL", 1, [4], False),
    ("FULL_TRANSITIVE", 1, [3, 2], True), ("FULL_TRANSITIVE", 1, [4, 3, 2], False),
]  # fmt: skip
