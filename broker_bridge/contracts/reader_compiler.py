"""Compiles, for a writer's schema and the reader's, one function that checks, decodes and resolves in a single pass.

Why not fastavro alone: it has none of the guards (measured on 1.13.1, C version: it accepts numbers of 5 MB,
negative union
and enum indexes and trailing bytes, makes 297 MB of 5 bytes, needs 89 s for a decimal of 1 MB, and a recursive
schema ends
the process at about 4 600 levels). A guard that walks the bytes before fastavro does costs 1.3 µs for the order of
the golden
vectors, and two parsers must then agree on every byte. One compiled pass with all guards takes less than fastavro
without
any, and resolving costs it nothing (``benchmarks`` in the project has the numbers). fastavro stays the reference:
tests compare every value with it.

The source is put together from whole numbers and from texts passed through ``repr``; anything else a schema holds is
reached
by the name of a constant. Nothing in a schema can become code.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from broker_bridge.contracts import logical
from broker_bridge.contracts.compatibility import name_of
from broker_bridge.contracts.contract import Contract
from broker_bridge.contracts.defaults import default_value
from broker_bridge.contracts.forms import Form
from broker_bridge.contracts.guards import Limits
from broker_bridge.contracts.resolution import match_fields, mismatches, pick_branch
from broker_bridge.contracts.schema_tree import Field, Node
from broker_bridge.contracts.source_text import Source, failed_at, load
from broker_bridge.contracts.wire import BadBytesError, UnresolvedError, int_tail, length_tail, long_tail
from broker_bridge.errors import ContractError, IncompatibleError, MalformedError

Reader = Callable[[bytes, int], Any]
"""From (framed value, where the body starts) to the decoded value."""

_SPARE_DECIMAL_BYTES = 8
"""Some libraries write a decimal with more sign bytes than it needs (-128 as ``ff 80``)."""
_MAX_NESTED_LOOPS = 6
"""CPython compiles at most 20 blocks in one another; each array takes two. Deeper ones become functions."""
_MAX_INDENT = 30


def compile_reader(writer: Contract, reader: Contract | None, form: Form, limits: Limits) -> Reader:
    """The reader for values of ``writer``, as ``reader`` has them (None: as they were written).

    Raises IncompatibleError where no value could be read. Where only some cannot (a union's branch or an enum's
    symbol that
    the reader lacks), those values raise it when they are met, as the specification has it.
    """
    target = reader or writer
    hard = [one for one in mismatches(target.tree, writer.tree) if not one.some_values]
    if hard:
        reasons = "; ".join(f"{one.path or 'record'}: {one.message}" for one in hard)
        raise IncompatibleError(
            f"{name_of(writer)} cannot be read as {name_of(target)}: {reasons}",
            remedy="read with a newer version of the contract, or give its new fields a default",
        )
    try:
        compiled = _Compiler(form, limits).compile(writer.tree, target.tree)
        read = load(compiled, f"<reader of {writer.subject} v{writer.version}>")
    except (RecursionError, SyntaxError, MemoryError) as error:
        raise ContractError(f"the schema is nested too deeply to be read: {error}", where=name_of(writer)) from error

    def checked(value: bytes, start: int) -> Any:
        try:
            return read(value, start)
        except Exception as error:
            raise _explain(error, start, writer, target) from error

    return checked


def _explain(error: Exception, start: int, writer: Contract, reader: Contract) -> ContractError:
    """The classified error. The field is found by the line that failed, so that the way without errors pays nothing."""
    field, found = failed_at(error.__traceback__)
    at = found.get("p", start)
    where = f"{writer.subject} v{writer.version}" + (f" {field}" if field else "")
    if isinstance(error, UnresolvedError):
        return IncompatibleError(
            f"{error}, written under version {writer.version} and read as version {reader.version}", where=where
        )
    if isinstance(error, BadBytesError):
        reason = str(error)
    elif isinstance(error, IndexError | struct.error):
        reason = "the bytes end inside the value"
    elif isinstance(error, UnicodeDecodeError):
        reason = f"a text is not UTF-8 ({error.reason})"
    elif isinstance(error, OverflowError):
        reason = "a date or time is out of Python's range"
    elif isinstance(error, ValueError):
        reason = str(error)
    else:
        reason = f"{type(error).__name__}: {error}"
    return MalformedError(f"{reason} (near byte {max(at - start, 0)} of the body)", where=where)


class _Compiler:
    def __init__(self, form: Form, limits: Limits) -> None:
        self.form = form
        self.limits = limits
        self.src = Source()
        self.functions: dict[tuple[Node, Node, bool], str] = {}
        self.pending: list[tuple[str, Node, Node, bool]] = []
        self.loops = 0
        for helper in (BadBytesError, UnresolvedError, int_tail, length_tail, long_tail):
            self.src.constants[helper.__name__] = helper

    def compile(self, writer: Node, reader: Node) -> Source:
        src = self.src
        src.line("def main(b, p):")
        with src.indented():
            src.line("n = len(b)")
            src.line(f"k = [{self.limits.max_items}]")
            src.line("d = 0")
            self.value(writer, reader, "v")
            src.line("if p != n:")
            src.line("    raise BadBytesError(f'{n - p} bytes are left over after the value')")
            src.line("return v")
        while self.pending:
            name, one_writer, one_reader, skip = self.pending.pop()
            self.function(name, one_writer, one_reader, skip)
        return src

    def function(self, name: str, writer: Node, reader: Node, skip: bool) -> None:
        """A type that is used more than once, or too deep to stand inline. ``d`` counts the calls in one another."""
        src = self.src
        self.loops = 0
        src.line(f"def {name}(b, p, n, k, d):")
        with src.indented(), src.at(writer.label):
            src.line(f"if d > {self.limits.max_depth}:")
            src.line(f"    raise BadBytesError('values are nested more than {self.limits.max_depth} deep')")
            src.line("k[0] -= 1")
            self.check_budget()
            self.body(writer, reader, None if skip else "v")
            src.line("return p" if skip else "return v, p")

    def check_budget(self) -> None:
        self.src.line("if k[0] < 0:")
        self.src.line(f"    raise BadBytesError('the value has more than {self.limits.max_items} items')")

    def value(self, writer: Node, reader: Node, var: str | None) -> None:
        """Code that reads one value into ``var`` (None: steps over it, with the same checks)."""
        if writer.kind == "union":
            self.union(writer, reader, var)
            return
        if reader.kind == "union":
            picked = pick_branch(reader, writer)
            assert picked is not None, "a mismatch that was not reported"
            reader = reader.branches[picked]
        shared = writer.uses > 1 and writer.kind == "record"
        deep = self.loops >= _MAX_NESTED_LOOPS or self.src.indent >= _MAX_INDENT
        if shared or (deep and writer.kind in ("record", "array", "map")):
            self.call(writer, reader, var)
        else:
            self.body(writer, reader, var)

    def call(self, writer: Node, reader: Node, var: str | None) -> None:
        key = (writer, reader, var is None)
        name = self.functions.get(key)
        if name is None:
            name = self.functions[key] = f"f{len(self.functions)}"
            self.pending.append((name, *key))
        self.src.line(f"{'p' if var is None else var + ', p'} = {name}(b, p, n, k, d + 1)")

    def body(self, writer: Node, reader: Node, var: str | None) -> None:
        getattr(self, f"read_{writer.kind}")(writer, reader, var)

    def union(self, writer: Node, reader: Node, var: str | None) -> None:
        src = self.src
        index = src.name("u")
        self.number(index, "int_tail")
        for number, branch in enumerate(writer.branches):
            src.line(f"{'if' if number == 0 else 'elif'} {index} == {number}:")
            with src.indented():
                if any(not one.some_values for one in mismatches(reader, branch)):
                    text = f"the value is {branch.label}, which the reader cannot take"
                    src.line(f"raise UnresolvedError({text!r})")
                else:
                    src.line("pass")
                    self.value(branch, reader if var else branch, var)
        src.line("else:")
        src.line(f"    raise BadBytesError(f'there is no union branch {{{index}}}')")

    def read_record(self, writer: Node, reader: Node, var: str | None) -> None:
        sources: dict[Field, tuple[Field, str]] = {}
        parts: list[str] = []
        for field, source in match_fields(reader, writer) if var else ():
            if source is None:
                parts.append(f"{field.name!r}: {self.default(field)}")
            else:
                name = self.src.name("v")
                sources[source] = (field, name)
                parts.append(f"{field.name!r}: {name}")
        for source in writer.fields:
            with self.src.at(source.name):
                if source in sources:
                    field, name = sources[source]
                    self.value(source.type, field.type, name)
                else:
                    self.value(source.type, source.type, None)
        if var:
            self.src.line(f"{var} = {{{', '.join(parts)}}}")

    def default(self, field: Field) -> str:
        """The default as an expression: made anew for each value where it could be changed by whoever gets it."""
        made = default_value(field.type, field.default, self.form)
        if isinstance(made, list | dict):
            self.src.constants["fresh"] = _fresh
            return f"fresh({self.src.constant(made)})"
        return self.src.constant(made)

    def read_array(self, writer: Node, reader: Node, var: str | None) -> None:
        if var:
            self.src.line(f"{var} = []")
        item = self.src.name("v") if var else None
        with self.blocks():
            self.value(writer.element, reader.element if var else writer.element, item)
            if var:
                self.src.line(f"{var}.append({item})")

    def read_map(self, writer: Node, reader: Node, var: str | None) -> None:
        if var:
            self.src.line(f"{var} = {{}}")
        key, item = (self.src.name("v"), self.src.name("v")) if var else (None, None)
        with self.blocks():
            self.read_string(writer, Node("string"), key)
            self.value(writer.element, reader.element if var else writer.element, item)
            if var:
                self.src.line(f"{var}[{key}] = {item}")

    def blocks(self) -> _Blocks:
        return _Blocks(self)

    def number(self, var: str, tail: str) -> None:
        src = self.src
        src.line(f"{var} = b[p]; p += 1")
        src.line(f"if {var} > 127: {var}, p = {tail}(b, p, {var})")
        src.line(f"else: {var} = ({var} >> 1) ^ -({var} & 1)")

    def length(self, limit: int | None = None) -> None:
        """Code that reads a length and leaves ``e`` at the end of what has it."""
        src = self.src
        src.line("x = b[p]; p += 1")
        src.line("if x > 127: x, p = length_tail(b, p, x)")
        src.line("elif x & 1: raise BadBytesError('a length is negative')")
        src.line("else: x >>= 1")
        if limit is not None:
            message = f"a decimal takes more than {limit} bytes, which its precision never needs"
            src.line(f"if x > {limit}: raise BadBytesError({message!r})")
        src.line("e = p + x")
        src.line("if e > n: raise BadBytesError(f'a length is {x}, {n - p} bytes are left')")

    def read_null(self, _writer: Node, _reader: Node, var: str | None) -> None:
        self.src.line(f"{var} = None" if var else "pass")

    def read_boolean(self, _writer: Node, _reader: Node, var: str | None) -> None:
        self.src.line("x = b[p]; p += 1")
        self.src.line("if x > 1: raise BadBytesError(f'a boolean is the byte {x}')")
        if var:
            self.src.line(f"{var} = x == 1")

    def read_int(self, _writer: Node, reader: Node, var: str | None) -> None:
        self.number(var or "x", "int_tail")
        self.convert_number(reader, var)

    def read_long(self, _writer: Node, reader: Node, var: str | None) -> None:
        self.number(var or "x", "long_tail")
        self.convert_number(reader, var)

    def read_float(self, _writer: Node, _reader: Node, var: str | None) -> None:
        self.ieee(var, "<f", 4)

    def read_double(self, _writer: Node, _reader: Node, var: str | None) -> None:
        self.ieee(var, "<d", 8)

    def ieee(self, var: str | None, layout: str, size: int) -> None:
        unpack = self.src.constant(struct.Struct(layout).unpack_from)
        self.src.line(f"{var or 'x'} = {unpack}(b, p)[0]; p += {size}")
        if var and self.form is Form.JSON:
            text = self.src.constant(logical.read_float_text)
            self.src.line(f"if {var} - {var} != 0.0: {var} = {text}({var})")

    def convert_number(self, reader: Node, var: str | None) -> None:
        if var is None:
            return
        if reader.kind in ("float", "double"):
            self.src.line(f"{var} = float({var})")
        elif reader.logical and self.form is Form.PYTHON:
            self.src.line(f"{var} = {self.src.constant(logical.READERS[reader.logical])}({var})")

    def read_string(self, writer: Node, reader: Node, var: str | None) -> None:
        self.length(_decimal_bytes(writer))
        if var:
            self.slice(reader, var)
        self.src.line("p = e")

    read_bytes = read_string

    def read_fixed(self, writer: Node, reader: Node, var: str | None) -> None:
        self.src.line(f"e = p + {writer.size}")
        self.src.line(f"if e > n: raise BadBytesError(f'{writer.size} bytes are due, {{n - p}} are left')")
        if var:
            self.slice(reader, var)
        self.src.line("p = e")

    def slice(self, reader: Node, var: str) -> None:
        """``b[p:e]`` as what the reader takes it for."""
        line, constant = self.src.line, self.src.constant
        if reader.kind == "string":
            line(f"{var} = str(b[p:e], 'utf-8')")
            if reader.logical == "uuid" and self.form is Form.PYTHON:
                line(f"{var} = {constant(logical.READERS['uuid'])}({var})")
        elif reader.logical == "decimal" and self.form is not Form.WIRE:
            make = logical.read_decimal if self.form is Form.PYTHON else logical.read_decimal_text
            line(f"{var} = {constant(make)}(b[p:e], {constant(10**reader.precision)}, {reader.scale})")
        elif self.form is Form.JSON:
            line(f"{var} = {constant(logical.read_base64)}(b[p:e])")
        else:
            line(f"{var} = b[p:e]")

    def read_enum(self, writer: Node, reader: Node, var: str | None) -> None:
        src = self.src
        self.number("x", "int_tail")
        src.line(f"if not 0 <= x < {len(writer.symbols)}: raise BadBytesError(f'there is no enum symbol {{x}}')")
        if var is None:
            return
        known = [one if one in reader.symbols else reader.default for one in writer.symbols]
        src.line(f"{var} = {src.constant(tuple(known))}[x]")
        if None in known:
            names = src.constant(writer.symbols)
            src.line(f"if {var} is None: raise UnresolvedError(f'the reader has no symbol {{{names}[x]}}')")


class _Blocks:
    """The loops over the blocks of an array or map, and over the items of a block."""

    def __init__(self, compiler: _Compiler) -> None:
        self.compiler = compiler

    def __enter__(self) -> None:
        src = self.compiler.src
        self.count, self.end = src.name("c"), src.name("q")
        self.path = src.at("[]")
        self.path.__enter__()
        src.line("while True:")
        src.indent += 1
        self.compiler.number(self.count, "long_tail")
        src.line(f"if {self.count} == 0: break")
        src.line(f"{self.end} = -1")
        src.line(f"if {self.count} < 0:")
        with src.indented():
            src.line(f"{self.count} = -{self.count}")
            self.compiler.length()
            src.line(f"{self.end} = e")
        src.line(f"k[0] -= {self.count}")
        self.compiler.check_budget()
        src.line(f"for _ in range({self.count}):")
        src.indent += 1
        src.line("pass")
        self.compiler.loops += 1

    def __exit__(self, *_: object) -> None:
        src = self.compiler.src
        src.indent -= 1
        src.line(f"if {self.end} not in (-1, p): raise BadBytesError('a block is not as long as it says')")
        src.indent -= 1
        self.compiler.loops -= 1
        self.path.__exit__(None, None, None)


def _decimal_bytes(writer: Node) -> int | None:
    if writer.logical != "decimal":
        return None
    digits: int = 10**writer.precision
    return digits.bit_length() // 8 + 1 + _SPARE_DECIMAL_BYTES


def _fresh(value: Any) -> Any:
    """A copy of a default as deep as it has lists and dicts."""
    if isinstance(value, dict):
        return {key: _fresh(one) for key, one in value.items()}
    return [_fresh(one) for one in value] if isinstance(value, list) else value
