"""Compiles, for a writer's schema and the reader's, one function that checks, decodes and resolves in a single pass.

Why not fastavro alone: it has none of the guards. Version 1.13.1 (C) accepts trailing bytes, negative union and enum
indexes and numbers of 5 MB; makes 150 MB of an array of nulls that is 5 bytes; takes 0.7 s for a decimal of 100 kB,
four times that for twice the size; and ends the process with a segmentation fault on a recursive schema
(``tests/unit/contracts/hostile_bytes.py`` shows it). No rule says for which schemas it is safe: indexes and trailing
bytes concern them all.

Why one pass and not a guard in front of fastavro: walking the order of the golden vectors takes 1.3 µs before fastavro
starts, and two parsers must then agree on every byte. Measured, CPU a value, CPython 3.11, framing included for ours:

=====================================  ========================  ======================
order-placed-v1 (40 bytes)             fastavro, no guards       compiled, all guards
=====================================  ========================  ======================
decode, numbers for times              2.7 µs                    3.0 µs
decode, datetimes                      3.5 µs                    3.4 µs
decode v1 as v2, numbers for times     7.0 µs                    3.0 µs
encode, datetimes                      4.2 µs                    3.4 µs
the same with 1 000 lines: decode      0.54 ms                   0.53 ms
… decode v1 as v2                      1.42 ms                   0.52 ms
… encode                               0.68 ms                   0.43 ms
=====================================  ========================  ======================

fastavro stays the reference: tests compare both on random schemas and values.

The source is put together from whole numbers and from texts passed through ``repr``; anything else a schema holds is
reached by the name of a constant. Nothing in a schema can become code.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from broker_bridge.contracts.compatibility import name_of
from broker_bridge.contracts.contract import Contract
from broker_bridge.contracts.defaults import default_value, items_of
from broker_bridge.contracts.forms import Form
from broker_bridge.contracts.guards import Limits
from broker_bridge.contracts.mismatch import mismatches
from broker_bridge.contracts.reader_scalars import ScalarReaders
from broker_bridge.contracts.resolution import Readable, Resolution, match_fields
from broker_bridge.contracts.schema_tree import Field, Node
from broker_bridge.contracts.source_text import Source, failed_at, load
from broker_bridge.contracts.wire import BadBytesError, UnresolvedError
from broker_bridge.errors import ContractError, IncompatibleError, MalformedError

Reader = Callable[[bytes, int], Any]
"""From (framed value, where the body starts) to the decoded value."""

_MAX_NESTED_LOOPS = 6
"""CPython compiles at most 20 blocks in one another; each array takes two. Deeper ones become functions."""
_MAX_INDENT = 30


def compile_reader(writer: Contract, reader: Contract | None, form: Form, limits: Limits) -> Reader:
    """The reader for values of ``writer``, as ``reader`` has them (None: as they were written).

    Raises IncompatibleError where no value could be read. Where only some cannot (a union's branch or an enum's symbol
    that the reader lacks), those values raise it when they are met, as the specification has it.
    """
    target = reader or writer
    resolution = Resolution()
    if resolution.readable(target.tree, writer.tree) is Readable.NONE:
        found = mismatches(target.tree, writer.tree, resolution)
        hard = [one for one in found if not one.some_values] or found
        reasons = "; ".join(f"{one.field or 'record'}: {one.message}" for one in hard)
        raise IncompatibleError(
            f"{name_of(writer)} cannot be read as {name_of(target)}: {reasons}",
            remedy="read with a newer version of the contract, or give its new fields a default",
        )
    try:
        compiled = _Compiler(form, limits, resolution).compile(writer.tree, target.tree)
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


class _Compiler(ScalarReaders):
    def __init__(self, form: Form, limits: Limits, resolution: Resolution) -> None:
        super().__init__(form)
        self.limits = limits
        self.resolution = resolution
        self.functions: dict[tuple[Node, Node, bool], str] = {}
        self.pending: list[tuple[str, Node, Node, bool]] = []
        self.loops = 0

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
            picked = self.resolution.pick(reader, writer)
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
                if self.resolution.readable(reader, branch) is Readable.NONE:
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
                with self.src.at(field.name):
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
        """The default as an expression: made anew for each value where it could be changed by whoever gets it. Such a
        copy counts as items of the value: one byte on the wire could otherwise become a list of thousands."""
        made = default_value(field.type, field.default, self.form)
        if isinstance(made, list | dict):
            self.src.constants["fresh"] = _fresh
            self.src.line(f"k[0] -= {items_of(made)}")
            self.check_budget()
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


def _fresh(value: Any) -> Any:
    """A copy of a default as deep as it has lists and dicts."""
    if isinstance(value, dict):
        return {key: _fresh(one) for key, one in value.items()}
    return [_fresh(one) for one in value] if isinstance(value, list) else value
