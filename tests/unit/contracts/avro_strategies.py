"""Random Avro schemas with values that fit them, and random later versions of a schema."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

Schema = Any
Typed = tuple[Schema, st.SearchStrategy[Any]]
Draw = Callable[[st.SearchStrategy[Any]], Any]

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
INT = st.integers(-(2**31), 2**31 - 1)
LONG = st.integers(-(2**63), 2**63 - 1)
FLOAT = st.floats(width=32, allow_nan=False)
DOUBLE = st.floats(allow_nan=False)
INSTANT = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001


def _millis(moment: Any) -> Any:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


SCALARS: dict[str, Typed] = {
    "null": ("null", st.none()),
    "boolean": ("boolean", st.booleans()),
    "int": ("int", INT),
    "long": ("long", LONG),
    "float": ("float", FLOAT),
    "double": ("double", DOUBLE),
    "string": ("string", TEXT),
    "bytes": ("bytes", st.binary(max_size=80)),
    "timestamp-millis": ({"type": "long", "logicalType": "timestamp-millis"}, INSTANT.map(_millis)),
    "timestamp-micros": ({"type": "long", "logicalType": "timestamp-micros"}, INSTANT),
    "date": ({"type": "int", "logicalType": "date"}, st.dates(date(1, 1, 1), date(9999, 12, 31))),
    "time-millis": ({"type": "int", "logicalType": "time-millis"}, st.times(time.min, time.max).map(_millis)),
    "time-micros": ({"type": "long", "logicalType": "time-micros"}, st.times(time.min, time.max)),
    "uuid": ({"type": "string", "logicalType": "uuid"}, st.uuids()),
    "decimal": (
        {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 3},
        st.integers(-(10**12) + 1, 10**12 - 1).map(lambda n: Decimal(n).scaleb(-3)),
    ),
}


@st.composite
def contracts(draw: Draw, depth: int = 2) -> tuple[Schema, list[Any]]:
    """A record schema and a few values of it."""
    schema, values = _record(draw, itertools.count(1), depth, top=True)
    return schema, draw(st.lists(values, min_size=1, max_size=3))


def _type(draw: Draw, numbers: itertools.count[int], depth: int) -> Typed:
    kinds = [*SCALARS, "enum", "fixed"]
    if depth:
        kinds += ["array", "map", "record", "union"] * 4
    kind = draw(st.sampled_from(kinds))
    if kind in SCALARS:
        return SCALARS[kind]
    if kind == "enum":
        symbols = ["A", "B", "C", "LONGER_ONE"]
        return {"type": "enum", "name": f"E{next(numbers)}", "symbols": symbols}, st.sampled_from(symbols)
    if kind == "fixed":
        size = draw(st.integers(0, 9))
        return {"type": "fixed", "name": f"F{next(numbers)}", "size": size}, st.binary(min_size=size, max_size=size)
    if kind == "record":
        return _record(draw, numbers, depth - 1)
    if kind == "union":
        return _union(draw, numbers, depth - 1)
    inner, values = _type(draw, numbers, depth - 1)
    if kind == "array":
        return {"type": "array", "items": inner}, st.lists(values, max_size=4)
    return {"type": "map", "values": inner}, st.dictionaries(TEXT, values, max_size=4)


def _record(draw: Draw, numbers: itertools.count[int], depth: int, *, top: bool = False) -> Typed:
    name = "T" if top else f"R{next(numbers)}"
    fields, values = [], {}
    for number in range(draw(st.integers(0, 5))):
        inner, value = _type(draw, numbers, depth)
        fields.append({"name": f"f{number}", "type": inner})
        values[f"f{number}"] = value
    return {"type": "record", "name": name, "namespace": "t", "fields": fields}, st.fixed_dictionaries(values)


def _union(draw: Draw, numbers: itertools.count[int], depth: int) -> Typed:
    """Branches that a Python value tells apart: at most one of each kind, and not both a map and a record."""
    names = draw(st.lists(st.sampled_from(["null", "boolean", "long", "string", "bytes"]), min_size=1, unique=True))
    branches = [SCALARS[name] for name in names]
    if draw(st.booleans()):
        branches.append(_record(draw, numbers, depth))
    return [schema for schema, _ in branches], st.one_of([values for _, values in branches])


@st.composite
def evolved(draw: Draw, schema: Schema) -> Schema:
    """A later version of a record schema: some changes are allowed, some are not."""
    changed = copy.deepcopy(schema)
    for _ in range(draw(st.integers(1, 3))):
        change = draw(st.sampled_from([_add, _add_required, _drop, _shuffle, _rename, _retype, _nullable, _symbols]))
        change(draw, changed)
    return changed


def _add(draw: Draw, schema: Schema) -> None:
    kind, default = draw(
        st.sampled_from([("string", "x"), ("bytes", "\xff"), ({"type": "array", "items": "int"}, [1])])
    )
    schema["fields"].append({"name": _free_name(schema), "type": kind, "default": default})


def _add_required(_draw: Draw, schema: Schema) -> None:
    schema["fields"].append({"name": _free_name(schema), "type": "int"})


def _free_name(schema: Schema) -> str:
    taken = {field["name"] for field in schema["fields"]} | {a for f in schema["fields"] for a in f.get("aliases", [])}
    return next(name for name in (f"n{number}" for number in itertools.count()) if name not in taken)


def _drop(draw: Draw, schema: Schema) -> None:
    if schema["fields"]:
        schema["fields"].remove(draw(st.sampled_from(schema["fields"])))


def _shuffle(draw: Draw, schema: Schema) -> None:
    schema["fields"] = draw(st.permutations(schema["fields"]))


def _rename(draw: Draw, schema: Schema) -> None:
    if schema["fields"]:
        field = draw(st.sampled_from(schema["fields"]))
        if "aliases" not in field:
            field["aliases"] = [field["name"]]
            field["name"] = "was_" + field["name"]


def _retype(draw: Draw, schema: Schema) -> None:
    if schema["fields"]:
        field = draw(st.sampled_from(schema["fields"]))
        field["type"] = draw(st.sampled_from(["long", "double", "bytes", "string"]))
        field.pop("default", None)


def _nullable(draw: Draw, schema: Schema) -> None:
    plain = [field for field in schema["fields"] if not isinstance(field["type"], list) and field["type"] != "null"]
    if plain:
        field = draw(st.sampled_from(plain))
        field["type"] = ["null", field["type"]]
        field.pop("default", None)


def _symbols(draw: Draw, schema: Schema) -> None:
    enums = [f["type"] for f in schema["fields"] if isinstance(f["type"], dict) and f["type"]["type"] == "enum"]
    if enums:
        chosen = draw(st.sampled_from(enums))
        chosen["symbols"] = draw(
            st.lists(st.sampled_from(["A", "B", "C", "LONGER_ONE", "NEW"]), min_size=1, unique=True)
        )
