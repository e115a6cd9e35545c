"""How a value says which schema wrote it.

============== ============================================================================================
form           value
============== ============================================================================================
confluent      ``0x00 | schema id, int32 big-endian | Avro body``
header         ``Avro body``; the header ``__value_schema_id`` holds ``0x01 | GUID of the schema, 16 bytes``
single-object  ``0xC3 0x01 | CRC-64-AVRO of the schema's parsing canonical form, little-endian | Avro body``
============== ============================================================================================

Sources: Confluent's wire format; its clients' ``HeaderSchemaIdSerializer`` and ``DualSchemaIdDeserializer``; Avro 1.12
specification, "Single-object encoding".

Where the header is there and not null, it names the schema and the whole value is the body, whatever its first bytes
are: a body may well begin with ``0x00`` or ``0xC3 0x01``. Only without it the first byte decides.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from broker_bridge.errors import MalformedError, UsageError, ValueInvalidError

MAGIC: Final = 0
PREFIX_BYTES: Final = 5
MAX_SCHEMA_ID: Final = 2**31 - 1
GUID_MAGIC: Final = b"\x01"
GUID_MARK_BYTES: Final = 17
SINGLE_OBJECT_MAGIC: Final = b"\xc3\x01"
SINGLE_OBJECT_BYTES: Final = 10

ID: Final = struct.Struct(">i")

SchemaMark = int | bytes
"""What names the schema of a value: an id, or the bytes of a GUID or a fingerprint with their magic in front."""


class WireForm(StrEnum):
    """How values are written. All are read."""

    CONFLUENT = "confluent"
    HEADER = "header"
    SINGLE_OBJECT = "single-object"

    @classmethod
    def named(cls, name: str) -> WireForm:
        """The form of that name. Raises UsageError."""
        try:
            return cls(name)
        except ValueError as error:
            raise UsageError(f"{name!r} is no wire form", remedy=f"one of: {', '.join(cls)}") from error


def prefix(schema_id: int) -> bytes:
    """The five bytes in front of every body written under that id."""
    if not 0 <= schema_id <= MAX_SCHEMA_ID:
        raise ValueInvalidError(f"schema id {schema_id} does not fit the wire: it must be from 0 to {MAX_SCHEMA_ID}")
    return b"\x00" + ID.pack(schema_id)


def frame(schema_id: int, body: bytes) -> bytes:
    """``body`` with the prefix that names its schema."""
    return prefix(schema_id) + body


def peek(value: bytes, schema_header: bytes | None = None) -> tuple[SchemaMark, int]:
    """What names the schema of a value, and where its body starts; nothing is copied of the body.

    ``schema_header`` is the header ``__value_schema_id``, where the record has one. Raises MalformedError.
    """
    if schema_header is not None:
        return _header_mark(schema_header), 0
    if len(value) >= PREFIX_BYTES and value[0] == MAGIC and value[1] < 128:  # nearly every value: decided here
        return ID.unpack_from(value, 1)[0], PREFIX_BYTES
    if not value:
        raise MalformedError("the value is empty: there is no magic byte and no schema id")
    form = _FORMS.get(value[0])
    if form is None:
        raise MalformedError(
            f"the first byte is 0x{value[0]:02x}, neither 0x00 (Confluent framing) nor 0xc3 (single-object encoding), "
            "and no header __value_schema_id names a schema",
            remedy="check what the producer of this topic writes, and that nothing on the way drops headers",
        )
    return form(value)


def unframe(value: bytes) -> tuple[int, bytes]:
    """Schema id and body of a value in Confluent framing. Raises MalformedError naming what is wrong."""
    mark, start = peek(value)
    if not isinstance(mark, int):
        raise MalformedError("the value is in single-object encoding, not in Confluent framing")
    return mark, value[start:]


def _header_mark(header: bytes) -> SchemaMark:
    """A header of ``0x00`` and an id is read too: Confluent's own clients read it, though they do not write it."""
    if len(header) == GUID_MARK_BYTES and header[:1] == GUID_MAGIC:
        return header
    if len(header) == PREFIX_BYTES and header[0] == MAGIC:
        return _confluent(header)[0]
    raise MalformedError(
        f"the header __value_schema_id has {len(header)} bytes that start with 0x{header[:1].hex() or '…'}: it must be "
        f"0x01 and a GUID of 16 bytes",
        remedy="check what the producer of this topic writes",
    )


def _confluent(value: bytes) -> tuple[int, int]:
    if len(value) < PREFIX_BYTES:
        raise MalformedError(
            f"the value is {len(value)} bytes, shorter than magic byte and schema id ({PREFIX_BYTES} bytes)"
        )
    schema_id: int = ID.unpack_from(value, 1)[0]
    if schema_id < 0:
        raise MalformedError(f"the schema id is negative ({schema_id})")
    return schema_id, PREFIX_BYTES


def _single_object(value: bytes) -> tuple[bytes, int]:
    if not SINGLE_OBJECT_MAGIC.startswith(value[:2]):
        raise MalformedError(
            f"the value starts with 0xc3 0x{value[1]:02x}; single-object encoding starts with 0xc3 0x01"
        )
    if len(value) < SINGLE_OBJECT_BYTES:
        raise MalformedError(
            f"the value is {len(value)} bytes, shorter than marker and fingerprint ({SINGLE_OBJECT_BYTES} bytes)"
        )
    return value[:SINGLE_OBJECT_BYTES], SINGLE_OBJECT_BYTES


_FORMS: Final[dict[int, Callable[[bytes], tuple[SchemaMark, int]]]] = {
    MAGIC: _confluent,
    SINGLE_OBJECT_MAGIC[0]: _single_object,
}
