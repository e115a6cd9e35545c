"""Compiles, for a schema, one function that checks a value and writes it, framed.

fastavro's writer lets through what nobody can read back or what means something else than was said: naive datetimes
(taken for local time), texts that are no UUID, misspelt optional fields, a missing field where null is allowed. Its
errors do not say which field. Checking first and writing after would walk every value twice. Bytes are the same as
fastavro's, which the tests hold it to.

As in ``reader_compiler``, nothing in a schema can become code.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from broker_bridge.contracts import logical
from broker_bridge.contracts.branches import branch_chooser
from broker_bridge.contracts.compatibility import name_of
from broker_bridge.contracts.contract import Contract
from broker_bridge.contracts.defaults import default_value
from broker_bridge.contracts.forms import Form
from broker_bridge.contracts.guards import Limits
from broker_bridge.contracts.schema_tree import MISSING, Field, Node
from broker_bridge.contracts.source_text import Source, failed_at, load
from broker_bridge.contracts.wire import INT_MAX, INT_MIN, LONG_MAX, LONG_MIN, encode_long
from broker_bridge.errors import ContractError, ValueInvalidError

Writer = Callable[[Any, bytes], bytes]
"""From (value, prefix) to framed bytes."""

_MAX_NESTED_LOOPS = 12
_MAX_INDENT = 30


class BadValueError(Exception):
    """A value that the schema does not allow; becomes ValueInvalidError with the field."""


def compile_writer(contract: Contract, form: Form, limits: Limits) -> Writer:
    """The writer for values in PYTHON or JSON form. What it writes is within what a reader with ``limits`` reads."""
    try:
        compiled = _Compiler(form, limits).compile(contract.tree)
        write = load(compiled, f"<writer of {contract.subject} v{contract.version}>")
    except (RecursionError, SyntaxError, MemoryError) as error:
        raise ContractError(f"the schema is nested too deeply: {error}", where=name_of(contract)) from error

    def checked(value: Any, start: bytes) -> bytes:
        try:
            framed: bytes = write(value, start)
        except Exception as error:
            raise _explain(error, contract) from error
        return framed

    return checked


def _explain(error: Exception, contract: Contract) -> ValueInvalidError:
    field, _ = failed_at(error.__traceback__)
    if isinstance(error, KeyError):
        reason = "the field is missing and has no default"
    elif isinstance(error, UnicodeEncodeError):
        reason = "the text has a lone surrogate, which UTF-8 cannot hold"
    elif isinstance(error, BadValueError | ValueError | OverflowError | struct.error):
        reason = str(error) or "the value is out of range"
    else:
        reason = f"{type(error).__name__}: {error}"
    where = f"{contract.subject} v{contract.version}" + (f" {field}" if field else "")
    return ValueInvalidError(reason, where=where)


class _Compiler:
    def __init__(self, form: Form, limits: Limits) -> None:
        self.form = form
        self.limits = limits
        self.src = Source()
        self.functions: dict[Node, str] = {}
        self.pending: list[Node] = []
        self.loops = 0
        for helper in (BadValueError, encode_long, text, mapping, sequence, whole, unknown_fields):
            self.src.constants[helper.__name__] = helper
        self.src.constants["MISSING"] = MISSING

    def compile(self, tree: Node) -> Source:
        src = self.src
        src.line("def main(v, start):")
        with src.indented():
            src.line("o = bytearray(start)")
            src.line("a = o.append")
            src.line(f"k = [{self.limits.max_items}]")
            src.line("d = 0")
            self.value(tree, "v")
            src.line("return bytes(o)")
        while self.pending:
            self.function(self.pending.pop())
        return src

    def function(self, node: Node) -> None:
        src = self.src
        self.loops = 0
        src.line(f"def {self.functions[node]}(v, o, k, d):")
        with src.indented(), src.at(node.label):
            src.line("a = o.append")
            src.line(f"if d > {self.limits.max_depth}:")
            src.line(f"    raise BadValueError('values are nested more than {self.limits.max_depth} deep')")
            self.spend("1")
            self.body(node, "v")

    def spend(self, count: str) -> None:
        self.src.line(f"k[0] -= {count}")
        self.src.line("if k[0] < 0:")
        self.src.line(f"    raise BadValueError('the value has more than {self.limits.max_items} items')")

    def value(self, node: Node, var: str) -> None:
        """Code that writes what ``var`` holds."""
        shared = node.uses > 1 and node.kind == "record"
        deep = self.loops >= _MAX_NESTED_LOOPS or self.src.indent >= _MAX_INDENT
        if not shared and not (deep and node.kind in ("record", "array", "map")):
            self.body(node, var)
            return
        if node not in self.functions:
            self.functions[node] = f"f{len(self.functions)}"
            self.pending.append(node)
        self.src.line(f"{self.functions[node]}({var}, o, k, d + 1)")

    def body(self, node: Node, var: str) -> None:
        getattr(self, f"write_{node.kind}")(node, var)

    def write_record(self, node: Node, var: str) -> None:
        src = self.src
        names = src.constant(frozenset(field.name for field in node.fields))
        optional = any(field.default is not MISSING for field in node.fields)
        absent = src.name("m")
        src.line(f"if type({var}) is not dict: {var} = mapping({var})")
        if optional:
            src.line(f"{absent} = 0")
        for field in node.fields:
            with src.at(field.name):
                item = self.take(field, var, absent)
                self.value(field.type, item)
        if self.form is not Form.JSON:
            expected = f"{len(node.fields)} - {absent}" if optional else str(len(node.fields))
            src.line(f"if len({var}) != {expected}: unknown_fields({var}, {names})")

    def take(self, field: Field, var: str, absent: str) -> str:
        """Code that takes a field out of a record, or its default."""
        item = self.src.name("v")
        if field.default is MISSING:
            self.src.line(f"{item} = {var}[{field.name!r}]")
        else:
            default = self.src.constant(default_value(field.type, field.default, self.form))
            self.src.line(f"{item} = {var}.get({field.name!r}, MISSING)")
            self.src.line(f"if {item} is MISSING: {item} = {default}; {absent} += 1")
        return item

    def write_union(self, node: Node, var: str) -> None:
        src = self.src
        kinds = [branch.kind for branch in node.branches]
        if len(kinds) == 2 and "null" in kinds:
            null = kinds.index("null")
            src.line(f"if {var} is None: a({2 * null})")
            src.line("else:")
            with src.indented():
                src.line(f"a({2 - 2 * null})")
                self.value(node.branches[1 - null], var)
            return
        index = src.name("u")
        src.line(f"{index} = {src.constant(branch_chooser(node, self.form))}({var})")
        for number, branch in enumerate(node.branches):
            src.line(f"{'if' if number == 0 else 'elif'} {index} == {number}:")
            with src.indented():
                src.line(f"o += {encode_long(number)!r}")
                self.value(branch, var)
        labels = ", ".join(branch.label for branch in node.branches)
        src.line(f"else: raise BadValueError(type({var}).__name__ + {f' fits none of the union [{labels}]'!r})")

    def write_array(self, node: Node, var: str) -> None:
        self.items(node, var, "sequence", "list")

    def write_map(self, node: Node, var: str) -> None:
        self.items(node, var, "mapping", "dict")

    def items(self, node: Node, var: str, check: str, exact: str) -> None:
        src = self.src
        src.line(f"if type({var}) is not {exact}: {var} = {check}({var})")
        src.line(f"if {var}:")
        with src.indented():
            self.spend(f"len({var})")
            src.line(f"o += encode_long(len({var}))")
            item = src.name("v")
            key = src.name("v")
            src.line(f"for {item} in {var}:" if exact == "list" else f"for {key}, {item} in {var}.items():")
            self.loops += 1
            with src.indented(), src.at("[]"):
                if exact == "dict":
                    self.write_string(Node("string"), key)
                self.value(node.element, item)
            self.loops -= 1
        src.line("a(0)")

    def write_null(self, _node: Node, var: str) -> None:
        self.src.line(f"if {var} is not None: raise BadValueError(type({var}).__name__ + ' is not null')")

    def write_boolean(self, _node: Node, var: str) -> None:
        self.src.line(f"if {var} is True: a(1)")
        self.src.line(f"elif {var} is False: a(0)")
        self.src.line(f"else: raise BadValueError(type({var}).__name__ + ' is not a boolean')")

    def write_int(self, node: Node, var: str) -> None:
        self.number(node, var, INT_MIN, INT_MAX)

    def write_long(self, node: Node, var: str) -> None:
        self.number(node, var, LONG_MIN, LONG_MAX)

    def number(self, node: Node, var: str, low: int, high: int) -> None:
        src = self.src
        convert = "whole"
        if node.logical and self.form is Form.PYTHON:
            convert = src.constant(logical.WRITERS[node.logical])
        low, high = logical.BOUNDS.get(node.logical or "", (low, high))
        src.line(f"if type({var}) is not int: {var} = {convert}({var})")
        what = node.logical or node.kind
        src.line(f"if not {low} <= {var} <= {high}: raise BadValueError('the number does not fit {what}')")
        src.line(f"x = ({var} << 1) ^ ({var} >> 63)")
        src.line("while x > 127: a(x & 127 | 128); x >>= 7")
        src.line("a(x)")

    def write_float(self, _node: Node, var: str) -> None:
        self.ieee(var, "<f")

    def write_double(self, _node: Node, var: str) -> None:
        self.ieee(var, "<d")

    def ieee(self, var: str, layout: str) -> None:
        convert = self.src.constant(logical.write_float if self.form is Form.JSON else number)
        self.src.line(f"if type({var}) is not float: {var} = {convert}({var})")
        self.src.line(f"o += {self.src.constant(struct.Struct(layout).pack)}({var})")

    def write_string(self, node: Node, var: str) -> None:
        if node.logical == "uuid":
            self.src.line(f"{var} = {self.src.constant(logical.write_uuid)}({var})")
        self.src.line(f"if type({var}) is not str: {var} = text({var})")
        self.src.line(f"s = {var}.encode()")
        self.sized()

    def sized(self) -> None:
        """Code that writes the bytes ``s`` behind their length."""
        self.src.line("x = len(s)")
        self.src.line("if x < 64: a(x << 1)")
        self.src.line("else: o += encode_long(x)")
        self.src.line("o += s")

    def write_bytes(self, node: Node, var: str) -> None:
        self.raw(node, var)
        self.sized()

    def write_fixed(self, node: Node, var: str) -> None:
        self.raw(node, var)
        self.src.line(f"if len(s) != {node.size}:")
        self.src.line(f"    raise BadValueError(f'{{len(s)}} bytes are not the {node.size} of {node.name}')")
        self.src.line("o += s")

    def raw(self, node: Node, var: str) -> None:
        if node.logical == "decimal":
            make = logical.write_decimal if self.form is Form.PYTHON else logical.write_decimal_text
            size = node.size if node.kind == "fixed" else None
            self.src.line(f"s = {self.src.constant(make)}({var}, {node.precision}, {node.scale}, {size})")
        else:
            convert = logical.write_base64 if self.form is Form.JSON else octets
            self.src.line(f"s = {self.src.constant(convert)}({var})")

    def write_enum(self, node: Node, var: str) -> None:
        table = self.src.constant({symbol: encode_long(number) for number, symbol in enumerate(node.symbols)})
        message = f"the text is none of the symbols of {node.name}"
        self.src.line(f"if type({var}) is not str: {var} = text({var})")
        self.src.line(f"s = {table}.get({var})")
        self.src.line(f"if s is None: raise BadValueError({message!r})")
        self.src.line("o += s")


def text(value: Any) -> str:
    """A text, also where an Enum member stands for it."""
    if isinstance(value, Enum):
        value = value.value
    if not isinstance(value, str):
        raise BadValueError(f"{type(value).__name__} is not a text")
    return str.__str__(value)


def mapping(value: Any) -> Mapping[Any, Any]:
    """A mapping that is not a dict."""
    if not isinstance(value, Mapping):
        raise BadValueError(f"{type(value).__name__} is not a mapping")
    return value


def sequence(value: Any) -> Any:
    """A tuple; a text or a set is no array."""
    if not isinstance(value, list | tuple):
        raise BadValueError(f"{type(value).__name__} is not a list")
    return value


def whole(value: Any) -> int:
    """A whole number of a subclass of int (an IntEnum), but no bool."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadValueError(f"{type(value).__name__} is not a whole number")
    return int(value)


def number(value: Any) -> float:
    """An int for a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadValueError(f"{type(value).__name__} is not a number")
    return float(value)


def octets(value: Any) -> bytes:
    """Bytes, or what holds bytes."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise BadValueError(f"{type(value).__name__} is not bytes")
    return bytes(value)


def unknown_fields(value: Mapping[Any, Any], names: frozenset[str]) -> None:
    """Names the fields that the schema does not have: a misspelt optional field would be lost without a word."""
    unknown = sorted(repr(key) for key in value if key not in names)
    raise BadValueError(f"the schema has no field {', '.join(unknown[:5])}")
