"""The rules of ``schemas lint``. A rule is a code, a severity, a reason, and what it says of one place of a schema.

Errors are what breaks readers or loses values sooner or later; warnings are what costs people time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from broker_bridge.contracts.any_schema import AnySchema
from broker_bridge.contracts.reserved_words import languages_that_reserve
from broker_bridge.contracts.resolution import short_name
from broker_bridge.contracts.schema_tree import NAMED, repeated, wrong_decimal
from broker_bridge.contracts.schema_walk import Spot, spots


class Severity(Enum):
    """How much a finding matters."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule is called, how much it matters, and why it is one."""

    code: str
    severity: Severity
    reason: str


Check = Callable[[Spot, AnySchema | None], Iterator[str]]
"""From a place, and the version before, to messages."""
RULES: list[tuple[Rule, Check]] = []
"""Every rule with its check, in the order they are told."""

MAX_PORTABLE_PRECISION: Final = 38
"""Digits of a decimal that Oracle, SQL Server and Snowflake hold, and most others."""
LOGICAL_TYPES: Final[dict[str, tuple[str, ...]]] = {
    "decimal": ("bytes", "fixed"),
    "big-decimal": ("bytes",),
    "uuid": ("string", "fixed"),
    "date": ("int",),
    "time-millis": ("int",),
    "time-micros": ("long",),
    **{f"{zone}timestamp-{unit}": ("long",) for zone in ("", "local-") for unit in ("millis", "micros", "nanos")},
    "duration": ("fixed",),
}
"""Logical types of the Avro 1.12 specification, and the types they stand on."""

_SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_CAMEL = re.compile(r"[a-z][a-z0-9]*([A-Z][a-z0-9]*)*")
_PASCAL = re.compile(r"[A-Z][A-Za-z0-9]*")
_UPPER = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
_INSTANT = re.compile(r"(.*_)?(at|time|timestamp|date|datetime)|.*(At|Time|Timestamp|Date)")
_MONEY = re.compile(r"(amount|price|cost|total|balance|fee|tax|salary)", re.IGNORECASE)


def rule(code: str, severity: Severity, reason: str, *kinds: str) -> Callable[[Check], Check]:
    """Registers a check for places of those kinds."""

    def register(check: Check) -> Check:
        def only(spot: Spot, before: AnySchema | None) -> Iterator[str]:
            return check(spot, before) if spot.kind in kinds else iter(())

        RULES.append((Rule(code, severity, reason), only))
        return check

    return register


# --- evolution -----------------------------------------------------------------------------------------------------


@rule("added-field-default", Severity.ERROR, "without one this version cannot read what the last one wrote", "field")
def _added_field(spot: Spot, before: AnySchema | None) -> Iterator[str]:
    earlier = _earlier_fields(spot.above, before)
    known = {spot.name, *spot.raw.get("aliases", ())}
    if earlier is not None and not known & earlier and "default" not in spot.raw:
        yield f"{spot.name} is new and has no default"


def _earlier_fields(record: Spot | None, before: AnySchema | None) -> set[str] | None:
    """Names of the fields the record had, None where there was no such record."""
    if record is None or before is None:
        return None
    names = {record.name, *record.raw.get("aliases", ())}
    for spot in spots(before.raw):
        if spot.kind == "record" and spot.name in names:
            return {one["name"] for one in spot.raw["fields"]}
    return None


@rule("enum-default", Severity.ERROR, "readers of this version fail at every symbol that is added later", "enum")
def _enum_default(spot: Spot, _: AnySchema | None) -> Iterator[str]:
    if "default" not in spot.raw:
        yield f"the enum {spot.name} has no default: name a symbol such as UNKNOWN or OTHER"


@rule("nullable-default", Severity.WARNING, "a field that may be null should be one that may be left out", "field")
def _nullable_default(spot: Spot, _: AnySchema | None) -> Iterator[str]:
    if isinstance(spot.raw["type"], list) and "null" in spot.raw["type"] and "default" not in spot.raw:
        yield f'{spot.name} may be null and has no default: add "default": null'


@rule("null-first", Severity.WARNING, "before Avro 1.12 a default is one of the first branch, so null", "union")
def _null_first(spot: Spot, _: AnySchema | None) -> Iterator[str]:
    if "null" in spot.raw[1:] and not _has_other_default(spot):
        yield "the union has null, and not first"


def _has_other_default(union: Spot) -> bool:
    """A nullable field whose default is a value has its branches the right way round."""
    field = union.above
    return field is not None and field.kind == "field" and field.raw.get("default") is not None


@rule("first-branch-default", Severity.ERROR, "libraries from before Avro 1.12 refuse the schema", "field")
def _first_branch_default(spot: Spot, _: AnySchema | None) -> Iterator[str]:
    kind = spot.raw["type"]
    if isinstance(kind, list) and kind and "default" in spot.raw and not _may_be(kind[0], spot.raw["default"]):
        yield f"the default {spot.raw['default']!r} is not one of the union's first branch"


def _may_be(schema: Any, default: Any) -> bool:
    """Whether a default can be one of a type, by the kind of JSON; a type told of elsewhere may be any but null."""
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind == "null" or default is None:
        return kind == "null" and default is None
    numbers = (int,) if kind in ("int", "long") else (int, float)
    if kind in ("int", "long", "float", "double"):
        return isinstance(default, numbers) and not isinstance(default, bool)
    texts = {"boolean": bool, "string": str, "bytes": str, "enum": str, "fixed": str, "array": list}
    return isinstance(default, texts.get(kind, dict if kind in ("map", "record") else object))


@rule("alias-taken", Severity.ERROR, "Java takes the field away from its own name, others do not", "record")
def _alias_taken(spot: Spot, _: AnySchema | None) -> Iterator[str]:
    names = [name for one in spot.raw["fields"] for name in (one["name"], *one.get("aliases", ()))]
    twice = repeated(names)
    if twice is not None:
        yield f"{twice!r} is a name or an alias of two fields"


@rule("union-of-many", Severity.WARNING, "Go has no type for it, and readers must know every branch", "union")
def _union_of_many(spot: Spot, _: AnySchema | None) -> Iterator[str]:
    if sum(branch != "null" for branch in spot.raw) > 1:
        yield "the union has more than one type besides null: a record with nullable fields can be added to"


# --- names ---------------------------------------------------------------------------------------------------------


@rule("namespace", Severity.ERROR, "two teams will call something alike, and readers match by name", *NAMED)
def _namespace(spot: Spot, _: AnySchema | None) -> Iterator[str]:
    if "." not in spot.name:
        yield f"{spot.name} has no namespace"


@rule("type-name", Severity.WARNING, "it becomes the name of a type in every language", *NAMED)
def _type_name(spot: Spot, _: AnySchema | None) -> Iterator[str]:
    if not _PASCAL.fullmatch(short_name(spot.name)):
        yield f"{short_name(spot.name)} is not written LikeThis"


@rule("field-name", Severity.WARNING, "one way of writing names lets every language map them to its own", "record")
def _field_names(spot: Spot, _: AnySchema | None) -> Iterator[str]:
    names = [one["name"] for one in spot.raw["fields"]]
    if not all(_SNAKE.fullmatch(one) for one in names) and not all(_CAMEL.fullmatch(one) for one in names):
        odd = next(one for one in names if not _SNAKE.fullmatch(one))
        yield f"the fields are not all like_this nor all likeThis: {odd}"


@rule("symbol-name", Severity.WARNING, "constants are written so in Go's, Rust's and Python's generators", "enum")
def _symbol_names(spot: Spot, _: AnySchema | None) -> Iterator[str]:
    odd = next((one for one in spot.raw["symbols"] if not _UPPER.fullmatch(one)), None)
    if odd is not None:
        yield f"the symbol {odd} is not written LIKE_THIS"


@rule("reserved-word", Severity.WARNING, "generated code must call it something else", "field", *NAMED)
def _reserved(spot: Spot, _: AnySchema | None) -> Iterator[str]:
    name = short_name(spot.name)
    languages = languages_that_reserve(name)
    if languages:
        yield f"{name} is a reserved word in {', '.join(languages)}"


@rule("name-clash", Severity.ERROR, "exported names drop the underscores and differ by nothing then", "record", "enum")
def _clash(spot: Spot, _: AnySchema | None) -> Iterator[str]:
    names = spot.raw["symbols"] if spot.kind == "enum" else [one["name"] for one in spot.raw["fields"]]
    twice = repeated(one.replace("_", "").lower() for one in names)
    if twice is not None:
        same = [one for one in names if one.replace("_", "").lower() == twice]
        yield f"{' and '.join(same)} are one name in Go"


# --- what values mean ----------------------------------------------------------------------------------------------


@rule("doc", Severity.WARNING, "the schema is all that other teams have of your service", "field", "record", "enum")
def _doc(spot: Spot, _: AnySchema | None) -> Iterator[str]:
    if not _has_doc(spot) and (spot.kind == "field" or not _told_by_field(spot)):
        yield f"{spot.name} has no doc"


def _has_doc(spot: Spot) -> bool:
    doc = spot.raw.get("doc")
    return isinstance(doc, str) and bool(doc.strip())


def _told_by_field(spot: Spot) -> bool:
    """A type that is written where a field uses it is told of by that field's doc."""
    here = spot.above
    while here is not None and here.kind != "field":
        here = here.above
    return here is not None and _has_doc(here)


@rule("decimal", Severity.ERROR, "readers take a decimal with impossible digits for plain bytes", "scalar", "fixed")
def _decimal(spot: Spot, _: AnySchema | None) -> Iterator[str]:
    if spot.raw.get("logicalType") == "decimal" and spot.raw["type"] in LOGICAL_TYPES["decimal"]:
        wrong = wrong_decimal(spot.raw.get("precision"), spot.raw.get("scale", 0), spot.raw.get("size"))
        if wrong:
            yield wrong


@rule("decimal-digits", Severity.WARNING, "most databases hold no more", "scalar", "fixed")
def _decimal_digits(spot: Spot, _: AnySchema | None) -> Iterator[str]:
    precision = spot.raw.get("precision")
    if spot.raw.get("logicalType") == "decimal" and type(precision) is int and precision > MAX_PORTABLE_PRECISION:
        yield f"a decimal of {precision} digits, more than {MAX_PORTABLE_PRECISION}"


@rule(
    "logical-type", Severity.ERROR, "libraries pass over it without a word and give the bare number", "scalar", "fixed"
)
def _logical_type(spot: Spot, _: AnySchema | None) -> Iterator[str]:
    logical = spot.raw.get("logicalType")
    if logical is None:
        return
    kinds = LOGICAL_TYPES.get(logical) if isinstance(logical, str) else None
    if kinds is None:
        yield f"{logical!r} is no logical type of Avro"
    elif spot.raw["type"] not in kinds:
        yield f"{logical} stands on {' or '.join(kinds)}, not on {spot.raw['type']}"


@rule(
    "logical-type-place", Severity.ERROR, "there it is an attribute nobody reads: the value is a bare number", "field"
)
def _logical_place(spot: Spot, _: AnySchema | None) -> Iterator[str]:
    if "logicalType" in spot.raw:
        yield f'logicalType stands beside the type of {spot.name}: write "type": {{"type": …, "logicalType": …}}'


@rule("time-as-number", Severity.WARNING, "nothing says which unit, zone or format it is in", "field")
def _time_as_number(spot: Spot, _: AnySchema | None) -> Iterator[str]:
    kind = _plain_kind(spot.raw["type"])
    if kind in ("int", "long", "string") and _INSTANT.fullmatch(spot.name):
        yield f"{spot.name} is a bare {kind}: give it a logical type such as timestamp-millis or date"


@rule("money-as-float", Severity.WARNING, "sums come out wrong by cents", "field")
def _money_as_float(spot: Spot, _: AnySchema | None) -> Iterator[str]:
    kind = _plain_kind(spot.raw["type"])
    if kind in ("float", "double") and _MONEY.search(spot.name):
        yield f"{spot.name} is a {kind}: use a decimal, or minor units in a long"


def _plain_kind(schema: Any) -> str:
    """The primitive a field is, null aside; empty where it is more than that."""
    if isinstance(schema, list):
        others = [branch for branch in schema if branch != "null"]
        return _plain_kind(others[0]) if len(others) == 1 else ""
    if isinstance(schema, dict):
        return "" if "logicalType" in schema or not isinstance(schema["type"], str) else _plain_kind(schema["type"])
    return str(schema)
