"""Avro as one does it by hand: fastavro, schemas parsed once, the frame cut off and put in front."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import fastavro

from benchmarks.job import ORDER, PAYMENT, PAYMENT_FRAME, SCHEMAS

ORDER_FRAME = b"\0" + struct.pack(">i", 2)


def parsed(subject: str, version: int) -> Any:
    """A schema as fastavro wants it."""
    return fastavro.parse_schema(json.loads((SCHEMAS / subject / f"v{version}.avsc").read_text()))


_ORDERS = {1: parsed(ORDER, 1), 2: parsed(ORDER, 2)}
_PAYMENT = parsed(PAYMENT, 1)


def decode_order(value: bytes) -> Any:
    """The order in a record's value."""
    (schema_id,) = struct.unpack(">i", value[1:5])
    return fastavro.schemaless_reader(io.BytesIO(value[5:]), _ORDERS[schema_id], None)


def encode_order(order: dict[str, Any]) -> bytes:
    """A record's value."""
    body = io.BytesIO()
    fastavro.schemaless_writer(body, _ORDERS[2], order)
    return ORDER_FRAME + body.getvalue()


def encode_payment(payment: dict[str, Any]) -> bytes:
    """A result's value."""
    body = io.BytesIO()
    fastavro.schemaless_writer(body, _PAYMENT, payment)
    return PAYMENT_FRAME + body.getvalue()
