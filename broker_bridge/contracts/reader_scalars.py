"""The lines of a compiled reader that read numbers, texts, bytes and enums, with their guards.

A part of ``reader_compiler``, which has the reasons. ``b`` is the value, ``p`` the next byte, ``n`` the end.
"""

from __future__ import annotations

import struct

from broker_bridge.contracts import logical
from broker_bridge.contracts.forms import Form
from broker_bridge.contracts.schema_tree import Node
from broker_bridge.contracts.source_text import Source
from broker_bridge.contracts.wire import BadBytesError, UnresolvedError, int_tail, length_tail, long_tail

_SPARE_DECIMAL_BYTES = 8
"""Some libraries write a decimal with more sign bytes than it needs (-128 as ``ff 80``)."""


class ScalarReaders:
    """Each method adds the code that reads one value into ``var``, or steps over it where ``var`` is None."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.src = Source()
        for helper in (BadBytesError, UnresolvedError, int_tail, length_tail, long_tail):
            self.src.constants[helper.__name__] = helper

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


def _decimal_bytes(writer: Node) -> int | None:
    if writer.logical != "decimal":
        return None
    digits: int = 10**writer.precision
    return digits.bit_length() // 8 + 1 + _SPARE_DECIMAL_BYTES
