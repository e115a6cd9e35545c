"""Defaults of a schema, which are JSON, as values in the form that is asked for."""

from __future__ import annotations

import base64
from typing import Any, Final

from broker_bridge.contracts import logical
from broker_bridge.contracts.forms import Form
from broker_bridge.contracts.schema_tree import MAX_SCHEMA_DEPTH, MISSING, Field, Node
from broker_bridge.contracts.wire import INT_MAX, INT_MIN, LONG_MAX, LONG_MIN
from broker_bridge.errors import ContractError

MAX_DEFAULT_ITEMS: Final = 10_000
"""Values in one default, those of fields that it leaves out included."""
_SHOWN_CHARS: Final = 100


def default_value(node: Node, default: Any, form: Form) -> Any:
    """A default of the type ``node``. Raises ContractError where the JSON is not a value of that type.

    In a union it is a value of any branch; the specification before 1.12 had the first one only. Bytes are written one
    character a byte (U+0000 to U+00FF).
    """
    try:
        return _Converter(form).convert(node, default)
    except (ValueError, OverflowError, TypeError) as error:
        shown = repr(default)
        shown = shown if len(shown) <= _SHOWN_CHARS else f"{shown[:_SHOWN_CHARS]}…"
        raise ContractError(f"the default {shown} is no {node.label}: {error}") from None


def items_of(made: Any) -> int:
    """How many lists, dicts and entries of them a default is made of: what each copy of it costs."""
    if isinstance(made, dict):
        return 1 + sum(map(items_of, made.values()))
    return 1 + sum(map(items_of, made)) if isinstance(made, list) else 1


def check_defaults(tree: Node) -> None:
    """Raises ContractError, with the field, where a default anywhere in a schema is no value of its type."""
    seen: set[Node] = set()
    pending = [tree]
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        pending.extend([*node.branches, *([node.items] if node.items else []), *(one.type for one in node.fields)])
        for field in node.fields:
            if field.default is not MISSING:
                try:
                    default_value(field.type, field.default, Form.PYTHON)
                except ContractError as error:
                    raise ContractError(error.detail, where=f"{node.name}.{field.name}") from None


class _Converter:
    """Converts one default. Fields that it leaves out have defaults of their own, so a few letters can stand for a
    value without end, or for one that doubles with each type: items and depth are counted."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.left = MAX_DEFAULT_ITEMS

    def convert(self, node: Node, default: Any, depth: int = 0) -> Any:
        self.left -= 1
        if self.left < 0 or depth > MAX_SCHEMA_DEPTH:
            raise _TooLargeError(f"it has more than {MAX_DEFAULT_ITEMS} items, or is nested without end")
        match node.kind:
            case "union":
                return self.union(node, default, depth)
            case "record":
                _require(isinstance(default, dict), "it is not an object")
                return {field.name: self.field(field, default, depth) for field in node.fields}
            case "array":
                _require(isinstance(default, list), "it is not a list")
                return [self.convert(node.element, one, depth + 1) for one in default]
            case "map":
                _require(isinstance(default, dict), "it is not an object")
                return {key: self.convert(node.element, one, depth + 1) for key, one in default.items()}
            case "bytes" | "fixed":
                return _bytes(node, default, self.form)
            case _:
                return _scalar(node, default, self.form)

    def union(self, node: Node, default: Any, depth: int) -> Any:
        for branch in node.branches:
            try:
                return self.convert(branch, default, depth + 1)
            except _TooLargeError:
                raise
            except (ValueError, TypeError, OverflowError):
                continue
        raise ValueError("it fits no branch of the union")

    def field(self, field: Field, default: dict[str, Any], depth: int) -> Any:
        given = default.get(field.name, field.default)
        _require(given is not MISSING, f"field {field.name} is missing")
        return self.convert(field.type, given, depth + 1)


class _TooLargeError(ValueError):
    """No other branch of a union is tried."""


def _bytes(node: Node, default: Any, form: Form) -> Any:
    _require(isinstance(default, str), "it is not a text")
    raw: bytes = default.encode("latin-1")
    _require(node.kind == "bytes" or len(raw) == node.size, f"it is not {node.size} characters long")
    if form is Form.WIRE:
        return raw
    if node.logical == "decimal":
        make = logical.read_decimal if form is Form.PYTHON else logical.read_decimal_text
        return make(raw, 10**node.precision, node.scale)
    return raw if form is Form.PYTHON else base64.b64encode(raw).decode("ascii")


def _scalar(node: Node, default: Any, form: Form) -> Any:
    kind = node.kind
    if kind == "null":
        _require(default is None, "it is not null")
    elif kind == "boolean":
        _require(isinstance(default, bool), "it is not true or false")
    elif kind in ("int", "long"):
        low, high = (INT_MIN, INT_MAX) if kind == "int" else (LONG_MIN, LONG_MAX)
        _require(type(default) is int and low <= default <= high, "it is not a whole number in range")
    elif kind in ("float", "double"):
        _require(type(default) in (int, float), "it is not a number")
        return float(default)
    else:
        _require(isinstance(default, str), "it is not a text")
        _require(kind == "string" or default in node.symbols, "it is not one of the symbols")
        default.encode()  # a lone surrogate is no Unicode text, and nobody could write it
    if node.logical and form is Form.PYTHON:
        return logical.READERS[node.logical](default)
    return default


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise ValueError(reason)
