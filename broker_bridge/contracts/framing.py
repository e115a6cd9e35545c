"""How a value says which schema wrote it.

One wire form today, Confluent's: ``0x00 | schema id, int32 big-endian | Avro body``. Every other form (the GUID header
of newer registries, Avro single-object encoding) starts with another first byte, so a new form is one more entry in
``_FORMS``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from broker_bridge.errors import MalformedError, ValueInvalidError

MAGIC: Final = 0
PREFIX_BYTES: Final = 5
MAX_SCHEMA_ID: Final = 2**31 - 1

_ID = struct.Struct(">i")


def prefix(schema_id: int) -> bytes:
    """The five bytes in front of every body written under that id."""
    if not 0 <= schema_id <= MAX_SCHEMA_ID:
        raise ValueInvalidError(f"schema id {schema_id} does not fit the wire: it must be from 0 to {MAX_SCHEMA_ID}")
    return b"\x00" + _ID.pack(schema_id)


def frame(schema_id: int, body: bytes) -> bytes:
    """``body`` with the prefix that names its schema."""
    return prefix(schema_id) + body


def peek(value: bytes) -> tuple[int, int]:
    """Schema id of a framed value and where its body starts, without copying. Raises MalformedError."""
    if len(value) >= PREFIX_BYTES and value[0] == MAGIC and value[1] < 128:  # nearly every value: decided here
        return _ID.unpack_from(value, 1)[0], PREFIX_BYTES
    if not value:
        raise MalformedError("the value is empty: there is no magic byte and no schema id")
    form = _FORMS.get(value[0])
    if form is None:
        raise MalformedError(
            f"the first byte is 0x{value[0]:02x}, not the magic byte 0x00: the value is not Avro in Confluent framing",
            remedy="check what the producer of this topic writes",
        )
    return form(value)


def unframe(value: bytes) -> tuple[int, bytes]:
    """Schema id and body of a framed value. Raises MalformedError naming what is wrong."""
    schema_id, start = peek(value)
    return schema_id, value[start:]


def _confluent(value: bytes) -> tuple[int, int]:
    if len(value) < PREFIX_BYTES:
        raise MalformedError(
            f"the value is {len(value)} bytes, shorter than magic byte and schema id ({PREFIX_BYTES} bytes)"
        )
    schema_id: int = _ID.unpack_from(value, 1)[0]
    if schema_id < 0:
        raise MalformedError(f"the schema id is negative ({schema_id})")
    return schema_id, PREFIX_BYTES


_FORMS: Final[dict[int, Callable[[bytes], tuple[int, int]]]] = {MAGIC: _confluent}
