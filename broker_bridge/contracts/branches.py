"""Which branch of a union a value to be written belongs to.

The first branch that fits, in the order of the schema: by Python type, by range for numbers, by length for fixed, by
symbol for enums, by the names of the fields for records. A whole number is taken for float or double only where no
branch takes it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from broker_bridge.contracts.forms import Form
from broker_bridge.contracts.schema_tree import MISSING, Node
from broker_bridge.contracts.wire import INT_MAX, INT_MIN, LONG_MAX, LONG_MIN

_Fits = Callable[[Any], bool]
_DATETIMES = ("timestamp-millis", "timestamp-micros", "local-timestamp-millis", "local-timestamp-micros")


def branch_chooser(union: Node, form: Form) -> Callable[[Any], int]:
    """Function from a value to the number of its branch, -1 where it fits none."""
    tests = [_test(branch, form) for branch in union.branches]
    records = [number for number, branch in enumerate(union.branches) if branch.kind in ("record", "map")]
    floats = [number for number, branch in enumerate(union.branches) if branch.kind in ("float", "double")]

    def choose(value: Any) -> int:
        for number, fits in enumerate(tests):
            if fits(value):
                return number
        if floats and type(value) is int:
            return floats[0]
        if len(records) == 1 and isinstance(value, Mapping):
            return records[0]  # it will not fit, but then the error names the field
        return -1

    return choose


def _test(node: Node, form: Form) -> _Fits:
    kind = node.kind
    if kind in ("int", "long"):
        return _number_test(node, form)
    if kind == "record":
        return _record_test(node, form)
    if kind in ("bytes", "fixed"):
        return _bytes_test(node, form)
    if kind == "enum":
        symbols = frozenset(node.symbols)
        return lambda value: isinstance(value, str | Enum) and _plain(value) in symbols
    if kind == "string" and node.logical == "uuid" and form is Form.PYTHON:
        return lambda value: isinstance(value, str | UUID)
    simple: dict[str, _Fits] = {
        "null": lambda value: value is None,
        "boolean": lambda value: isinstance(value, bool),
        "float": lambda value: isinstance(value, float),
        "double": lambda value: isinstance(value, float),
        "string": lambda value: isinstance(value, str) or (isinstance(value, Enum) and isinstance(value.value, str)),
        "array": lambda value: isinstance(value, list | tuple),
        "map": lambda value: isinstance(value, Mapping),
    }
    return simple[kind]


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _number_test(node: Node, form: Form) -> _Fits:
    low, high = (INT_MIN, INT_MAX) if node.kind == "int" else (LONG_MIN, LONG_MAX)

    def whole(value: Any) -> bool:
        return type(value) is int and low <= value <= high

    if node.logical is None or form is not Form.PYTHON:
        return whole
    if node.logical in _DATETIMES:
        return lambda value: isinstance(value, datetime) or whole(value)
    if node.logical == "date":
        return lambda value: (isinstance(value, date) and not isinstance(value, datetime)) or whole(value)
    return lambda value: isinstance(value, time) or whole(value)


def _bytes_test(node: Node, form: Form) -> _Fits:
    if node.logical == "decimal":
        return lambda value: isinstance(value, Decimal if form is Form.PYTHON else str)
    if form is Form.JSON:
        return lambda value: isinstance(value, str)
    if node.kind == "fixed":
        return lambda value: isinstance(value, bytes | bytearray) and len(value) == node.size
    return lambda value: isinstance(value, bytes | bytearray)


def _record_test(node: Node, form: Form) -> _Fits:
    names = frozenset(field.name for field in node.fields)
    required = frozenset(field.name for field in node.fields if field.default is MISSING)

    def fits(value: Any) -> bool:
        return isinstance(value, Mapping) and required <= value.keys() and (form is Form.JSON or value.keys() <= names)

    return fits
