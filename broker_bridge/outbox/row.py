"""One row of the outbox: what is kept of an event, and how its headers are written down."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Final, NamedTuple

from broker_bridge import headers as h
from broker_bridge.message import Header, OutgoingRecord

BUCKETS: Final = 64
"""Part of the table's layout: rows of one key must be in one bucket, whoever wrote them and whenever."""

RECORD_OVERHEAD_BYTES: Final = 200
HEADER_OVERHEAD_BYTES: Final = 10


class OutboxRow(NamedTuple):
    """A row as the relay reads it. ``size_bytes`` is what it takes in a request to Kafka, estimated from above."""

    id: int
    topic: str
    key: bytes | None
    value: bytes | None
    headers: str
    partition: int | None
    event_id: str
    size_bytes: int

    def record(self) -> OutgoingRecord:
        """The record as the service wrote it."""
        return OutgoingRecord(
            topic=self.topic,
            value=self.value,
            key=self.key,
            headers=read_headers(self.headers),
            partition=self.partition,
        )


def bucket_of(key: bytes | None, event_id: str) -> int:
    """First byte of the key's SHA-256, modulo 64: easily said in any language. Without a key the event id decides."""
    return hashlib.sha256(key if key is not None else event_id.encode()).digest()[0] % BUCKETS


def lock_of(table: str, topic: str, key: bytes) -> int:
    """The number of the advisory lock that orders the transactions which write under this key: signed, 64 bits."""
    hashed = hashlib.blake2b(f"{table}\0{topic}\0".encode() + key, digest_size=8).digest()
    return int.from_bytes(hashed, "big", signed=True)


def size_bytes(record: OutgoingRecord) -> int:
    """An upper bound of the record's size in a request of its own."""
    headers = sum(len(name) + len(value or b"") + HEADER_OVERHEAD_BYTES for name, value in record.headers)
    return len(record.value or b"") + len(record.key or b"") + headers + RECORD_OVERHEAD_BYTES


def event_id_of(record: OutgoingRecord) -> str:
    """The event's id, as its headers have it."""
    return h.text_of(record.headers, h.CE_ID) or ""


def write_headers(headers: Sequence[Header]) -> str:
    """As JSON: ``[name, text]`` or ``[name, null]``; a value that is no UTF-8 is ``[name, {"base64": …}]``."""
    return json.dumps([[name, _written(value)] for name, value in headers])


def _written(value: bytes | None) -> str | dict[str, str] | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def read_headers(text: str) -> list[Header]:
    """The headers that ``write_headers`` wrote. Raises ``ValueError`` where the text is not that."""
    try:
        return [(str(name), _read(value)) for name, value in json.loads(text)]
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"headers are not a JSON list of [name, value]: {error}") from error


def _read(value: str | dict[str, str] | None) -> bytes | None:
    if value is None:
        return None
    return value.encode() if isinstance(value, str) else base64.b64decode(value["base64"], validate=True)
