"""A schema as a tree that the compilers and the compatibility check walk.

Built from the JSON text by the rules of the Avro 1.12 specification ("Schema Declaration", "Names", "Logical Types").
It is stricter than fastavro's own parser, which lets through names with spaces, fields declared twice, unions inside
unions, unions with a branch twice, and fixed types of negative size. References to a named type are the same ``Node``,
so the tree of a recursive schema has cycles.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from broker_bridge.errors import ContractError

PRIMITIVES: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
NAMED: Final = frozenset({"record", "enum", "fixed"})
MAX_SCHEMA_DEPTH: Final = 64
"""Types nested in types, in a schema's text. Deeper is refused: it costs stack in every language that reads it."""
MAX_SCHEMA_CHARS: Final = 1_048_576
"""Characters of a schema's text, or of any JSON beside it. Kafka's own default for a record is as much."""
MAX_CONTRACT_TYPES: Final = 10_000
"""Types, fields and symbols that a contract may have together: each becomes lines of code, which take 0.1 ms to compile
for each reader and writer. A table of 3 000 nullable columns has as many."""
MAX_PRECISION: Final = 1000
"""Digits of a decimal. Converting digits to a number is quadratic; 1 000 digits take microseconds, a megabyte 89 s."""

_SHOWN_CHARS: Final = 100

MISSING: Final[Any] = object()
"""No default was declared. (``None`` is a default like any other.)"""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FULL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_LOGICAL: Final[dict[str, frozenset[str]]] = {
    "decimal": frozenset({"bytes", "fixed"}),
    "uuid": frozenset({"string"}),
    "date": frozenset({"int"}),
    "time-millis": frozenset({"int"}),
    "time-micros": frozenset({"long"}),
    "timestamp-millis": frozenset({"long"}),
    "timestamp-micros": frozenset({"long"}),
    "local-timestamp-millis": frozenset({"long"}),
    "local-timestamp-micros": frozenset({"long"}),
}


@dataclass(eq=False, slots=True)
class Field:
    """One field of a record. ``default`` is the JSON value of the schema, or MISSING."""

    name: str
    type: Node
    default: Any = MISSING
    aliases: tuple[str, ...] = ()


@dataclass(eq=False, slots=True)
class Node:
    """One type. Only what its ``kind`` has is set; ``logical`` is None where unknown or not valid on that type."""

    kind: str
    name: str = ""
    aliases: tuple[str, ...] = ()
    fields: list[Field] = field(default_factory=list)
    items: Node | None = None
    branches: list[Node] = field(default_factory=list)
    symbols: tuple[str, ...] = ()
    default: str | None = None
    size: int = 0
    logical: str | None = None
    precision: int = 0
    scale: int = 0
    uses: int = 1
    """How often the schema names this type; above 1 it is shared, maybe recursive."""

    @property
    def label(self) -> str:
        """How messages call it: the full name, or the kind."""
        return self.name or self.kind

    @property
    def element(self) -> Node:
        """Items of an array, values of a map."""
        if self.items is None:
            raise TypeError(f"a {self.kind} has no items")
        return self.items


def load_json(text: str) -> Any:
    """JSON as every language reads it: no repeated keys (Python would silently keep the last), no NaN or Infinity.

    Raises ValueError.
    """
    if not text.strip():
        raise ValueError("there is nothing in it")
    if text.startswith("\ufeff"):
        raise ValueError("it begins with a byte order mark: save it as UTF-8 without one")
    if len(text) > MAX_SCHEMA_CHARS:
        raise ValueError(f"it has {len(text)} characters, the limit is {MAX_SCHEMA_CHARS}")
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"key {repeated(name for name, _ in pairs)!r} is there twice")
    return found


def build_tree(schema: Any, *, lenient: bool = False, max_types: int | None = None) -> Node:
    """The tree of a schema given as parsed JSON. Raises ContractError naming the place in the schema, also where it has
    more than ``max_types`` types, fields and symbols.

    ``lenient`` takes what others write and no value should have to rely on. Avro for Java reads a union without
    branches, an alias that is another field's name, and a bare name for a type without a namespace from within one; a
    decimal with impossible digits is plain bytes by the specification.
    """
    return _Builder(lenient, max_types).build(schema, namespace="", path="schema", depth=0)


class _Builder:
    def __init__(self, lenient: bool, max_types: int | None) -> None:
        self.named: dict[str, Node] = {}
        self.lenient = lenient
        self.max_types = max_types
        self.count = 0

    def spend(self, count: int, path: str) -> None:
        """Count types and symbols. Raises ContractError beyond the limit."""
        self.count += count
        if self.max_types is not None and self.count > self.max_types:
            raise ContractError(f"the schema has more than {self.max_types} types, fields and symbols", where=path)

    def build(self, schema: Any, *, namespace: str, path: str, depth: int) -> Node:
        if depth > MAX_SCHEMA_DEPTH:
            raise ContractError(f"types are nested more than {MAX_SCHEMA_DEPTH} deep", where=path)
        self.spend(1, path)
        if isinstance(schema, str):
            return self._reference(schema, namespace, path)
        if isinstance(schema, list):
            return self._union(schema, namespace, path, depth)
        if not isinstance(schema, dict):
            raise ContractError(f"a schema is a name, an object or a list, not {schema!r}", where=path)
        kind = schema.get("type")
        if isinstance(kind, dict | list):
            return self.build(kind, namespace=namespace, path=path, depth=depth + 1)
        if not isinstance(kind, str):
            raise ContractError("the object has no 'type'", where=path)
        if kind in NAMED:
            return self._named(kind, schema, namespace, path, depth)
        if kind in ("array", "map"):
            key = "items" if kind == "array" else "values"
            if key not in schema:
                raise ContractError(f"the {kind} has no '{key}'", where=path)
            inner = self.build(schema[key], namespace=namespace, path=f"{path}[]", depth=depth + 1)
            return Node(kind, items=inner)
        node = self._reference(kind, namespace, path)
        if kind in PRIMITIVES:
            _set_logical(node, schema, path, self.lenient)
        return node

    def _reference(self, name: str, namespace: str, path: str) -> Node:
        if name in PRIMITIVES:
            return Node(name)
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        node = self.named.get(full) or (self.named.get(name) if self.lenient else None)
        if node is None:
            raise ContractError(
                f"no type is called {name!r}", where=path, remedy="define it in this file, before it is used"
            )
        node.uses += 1
        return node

    def _union(self, schema: list[Any], namespace: str, path: str, depth: int) -> Node:
        branches = [
            self.build(one, namespace=namespace, path=f"{path}|{number}", depth=depth + 1)
            for number, one in enumerate(schema)
        ]
        labels = [branch.label for branch in branches]
        if not branches and not self.lenient:
            raise ContractError("the union is empty", where=path)
        if "union" in labels:
            raise ContractError("a union stands directly in a union", where=path)
        twice = repeated(labels)
        if twice is not None:
            raise ContractError(f"the union has {twice!r} twice", where=path)
        return Node("union", branches=branches)

    def _named(self, kind: str, schema: dict[str, Any], namespace: str, path: str, depth: int) -> Node:
        full = _full_name(schema, namespace, path)
        if full in self.named:
            raise ContractError(f"the type {full!r} is defined twice", where=path)
        space = full.rpartition(".")[0]
        aliases = tuple(a if "." in a or not space else f"{space}.{a}" for a in _strings(schema, "aliases", path))
        node = self.named[full] = Node(kind, name=full, aliases=aliases)
        if kind == "enum":
            _fill_enum(node, schema, path)
            self.spend(len(node.symbols), path)
        elif kind == "fixed":
            _fill_fixed(node, schema, path, self.lenient)
        else:
            self._fill_record(node, schema, space, path, depth)
        return node

    def _fill_record(self, node: Node, schema: dict[str, Any], space: str, path: str, depth: int) -> None:
        fields = schema.get("fields")
        if not isinstance(fields, list):
            raise ContractError(f"the record {node.name!r} has no list of 'fields'", where=path)
        taken: set[str] = set()
        for number, spec in enumerate(fields):
            if not isinstance(spec, dict) or not isinstance(spec.get("name"), str) or "type" not in spec:
                raise ContractError(f"field {number} of {node.name!r} has no 'name' or no 'type'", where=path)
            name = spec["name"]
            place = f"{path}.{name}"
            if not _NAME.fullmatch(name):
                raise ContractError(f"the field name {name!r} is not a valid Avro name", where=place)
            aliases = tuple(_strings(spec, "aliases", place))
            for one in (name,) if self.lenient else (name, *aliases):
                if one in taken:
                    raise ContractError(f"two fields of {node.name!r} are called {one!r}", where=place)
                taken.add(one)
            inner = self.build(spec["type"], namespace=space, path=place, depth=depth + 1)
            node.fields.append(Field(name, inner, spec.get("default", MISSING), aliases))


def _full_name(schema: dict[str, Any], namespace: str, path: str) -> str:
    name, space = schema.get("name"), schema.get("namespace", namespace)
    if not isinstance(name, str) or not isinstance(space, str):
        raise ContractError("'name' is missing, or 'name' or 'namespace' is not a text", where=path)
    full = name if "." in name or not space else f"{space}.{name}"
    if not _FULL_NAME.fullmatch(full):
        raise ContractError(f"{full!r} is not a valid Avro name", where=path)
    if full in PRIMITIVES:
        raise ContractError(f"{full!r} is the name of a primitive type", where=path)
    return full


def repeated(names: Iterable[str]) -> str | None:
    """The first name that is there a second time."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _strings(schema: dict[str, Any], key: str, path: str) -> list[str]:
    found = schema.get(key, [])
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ContractError(f"'{key}' is not a list of texts", where=path)
    return found


def _fill_enum(node: Node, schema: dict[str, Any], path: str) -> None:
    node.symbols = tuple(_strings(schema, "symbols", path))
    if not node.symbols:
        raise ContractError(f"the enum {node.name!r} has no symbols", where=path)
    for symbol in node.symbols:
        if not _NAME.fullmatch(symbol):
            raise ContractError(f"the symbol {symbol!r} is not a valid Avro name", where=path)
    twice = repeated(node.symbols)
    if twice is not None:
        raise ContractError(f"the enum {node.name!r} has the symbol {twice!r} twice", where=path)
    node.default = schema.get("default")
    if node.default is not None and node.default not in node.symbols:
        raise ContractError(f"the default {node.default!r} of {node.name!r} is not one of its symbols", where=path)


def _fill_fixed(node: Node, schema: dict[str, Any], path: str, lenient: bool) -> None:
    size = schema.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= 2**31 - 1:
        raise ContractError(f"'size' of the fixed type {node.name!r} is not a whole number from 0", where=path)
    node.size = size
    _set_logical(node, schema, path, lenient)


def _set_logical(node: Node, schema: dict[str, Any], path: str, lenient: bool) -> None:
    """Unknown logical types, and known ones on the wrong type, count for nothing: that is the specification's rule."""
    logical = schema.get("logicalType")
    if not isinstance(logical, str) or node.kind not in _LOGICAL.get(logical, ()):
        return
    if logical == "decimal":
        precision, scale = schema.get("precision"), schema.get("scale", 0)
        wrong = wrong_decimal(precision, scale, node.size if node.kind == "fixed" else None)
        if wrong and lenient:
            return
        if wrong:
            raise ContractError(wrong, where=path)
        assert isinstance(precision, int)
        node.precision, node.scale = precision, scale
    node.logical = logical


def wrong_decimal(precision: Any, scale: Any, size: int | None) -> str:
    """Why a decimal cannot have these digits (``size``: bytes of its fixed type); empty where it can."""
    if type(precision) is not int or type(scale) is not int or not 0 <= scale <= precision <= MAX_PRECISION:
        has = f"{scale!r} and {precision!r}"
        has = has if len(has) < _SHOWN_CHARS else f"{has[:_SHOWN_CHARS]}…"
        return f"the decimal needs 0 <= scale <= precision <= {MAX_PRECISION}, it has {has}"
    if precision < 1:
        return "a decimal needs a precision from 1"
    if size is not None and size < MAX_PRECISION and 10**precision > 2 ** max(8 * size - 1, 0):
        return f"a decimal of {precision} digits does not fit {size} bytes"
    return ""
