"""Header names of the wire contract and how identity is read from them.

Sources: CloudEvents 1.0 Kafka protocol binding (binary mode, ``ce_`` prefix), W3C Trace Context, the idempotency-key
draft of the
HTTP working group. Everything the bridge itself adds is under one reserved prefix, ``bridge-``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from broker_bridge.message import Header, Position, Record

CE_SPECVERSION: Final = "ce_specversion"
CE_ID: Final = "ce_id"
CE_SOURCE: Final = "ce_source"
CE_TYPE: Final = "ce_type"
CE_TIME: Final = "ce_time"
CE_SUBJECT: Final = "ce_subject"
CONTENT_TYPE: Final = "content-type"
TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
CORRELATION_ID: Final = "correlation-id"
CAUSATION_ID: Final = "causation-id"
IDEMPOTENCY_KEY: Final = "idempotency-key"
DEADLINE: Final = "deadline"
VALUE_SCHEMA_ID: Final = "__value_schema_id"
"""Which schema wrote the value, where the value itself does not say so (``contracts.framing``)."""

BRIDGE_PREFIX: Final = "bridge-"
ORIGIN: Final = "bridge-origin"
"""``topic/partition/offset`` of the record in its source topic."""
GROUP: Final = "bridge-group"
ATTEMPT: Final = "bridge-attempt"
"""Attempts spent so far, as a decimal number."""
DUE_MS: Final = "bridge-due-ms"
"""Not to be delivered before this time (ms since the epoch)."""
PARKED: Final = "bridge-parked"
"""``1`` where the message was never tried but waits behind an earlier one of its key."""
HELD: Final = "bridge-held"
"""``1`` on a record in a retry lane that is not to be tried: it keeps its key held while its dead letter waits."""
FIRST_FAILURE_MS: Final = "bridge-first-failure-ms"
LAST_FAILURE_MS: Final = "bridge-last-failure-ms"
ERROR_CODE: Final = "bridge-error-code"
ERROR_CLASS: Final = "bridge-error-class"
ERROR_MESSAGE: Final = "bridge-error-message"
TARGET_CODE: Final = "bridge-target-code"
FINGERPRINT: Final = "bridge-fingerprint"
SERVICE: Final = "bridge-service"
TRACE: Final = "bridge-trace"
REPLAY_ID: Final = "bridge-replay-id"
REPLAY_ITEM: Final = "bridge-replay-item"
"""On a replayed record: the number of its item in the plan, from 0."""
ORDER: Final = "bridge-order"
"""On a replayed record: what to do where a newer message of its record key was completed (``core.newest_version``)."""
EDITED_FROM: Final = "bridge-edited-from"
"""On a replayed record whose value an operator changed: the payload fingerprint of the value as produced, in hex. Its
claim goes by that one: to whoever reads the original record again it is the same message."""
RELEASE: Final = "bridge-release"
"""Which release of the service reported the failure (``[bridge] release``)."""
HOPS: Final = "bridge-hops"
"""How often the message has been replayed."""
DEAD_LETTER: Final = "bridge-dead-letter"
"""On a replayed record: ``topic/partition/offset`` of the dead letter it came from."""
ORIGIN_TIMESTAMP_MS: Final = "bridge-origin-timestamp-ms"
OF_A_REPLAY: Final = (REPLAY_ID, REPLAY_ITEM, ORDER, EDITED_FROM, HOPS, DEAD_LETTER)
"""What a replayed record keeps on its way through the retry lanes."""


class Identity(NamedTuple):
    """What must be known of a record before it is decoded: its idempotency key, and its place in the source topic."""

    idempotency_key: str
    origin: Position


def text_of(headers: Iterable[Header], name: str) -> str | None:
    """The last header of that name as text, None where absent, null or not UTF-8."""
    return text_in(dict(headers), name)


def text_in(named: Mapping[str, bytes | None], name: str) -> str | None:
    """As ``text_of``, of ``dict(headers)``: made once where several names are asked for, as for every message."""
    found = named.get(name)
    if found is None:
        return None
    try:
        return found.decode()
    except UnicodeDecodeError:
        return None


def schema_header_of(headers: Iterable[Header]) -> bytes | None:
    """The last header that names the schema of the value; None where there is none, or it is null."""
    return dict(headers).get(VALUE_SCHEMA_ID)


def int_of(headers: Iterable[Header], name: str, default: int) -> int:
    """The last header of that name as a whole number, ``default`` where it is absent or not one."""
    return int_in(dict(headers), name, default)


def int_in(named: Mapping[str, bytes | None], name: str, default: int) -> int:
    """As ``int_of``, of ``dict(headers)``."""
    found = named.get(name)
    return int(found) if found is not None and len(found) <= _DIGITS and found.isdigit() else default


def parse_position(text: str) -> Position | None:
    """``topic/partition/offset`` read back; None where it is not that."""
    parts = text.rsplit("/", 2)
    if len(parts) != 3 or not parts[0] or not (_is_number(parts[1]) and _is_number(parts[2])):
        return None
    return Position(parts[0], int(parts[1]), int(parts[2]))


_DIGITS: Final = 18


def _is_number(text: str) -> bool:
    """At most 18 decimal digits. ``isdigit`` alone also takes ``²``, and ``int`` refuses numbers of 4 301 digits."""
    return len(text) <= _DIGITS and text.isascii() and text.isdigit()


def idempotency_key(headers: Iterable[Header], origin: Position) -> str:
    """The producer's ``idempotency-key``, else source and id of the event, else the record's place in the log.

    ``#`` in the source is escaped, so that two different (source, id) pairs never make one key.
    """
    return idempotency_key_in(dict(headers), origin)


def idempotency_key_in(named: Mapping[str, bytes | None], origin: Position) -> str:
    """As ``idempotency_key``, of ``dict(headers)``."""
    return stated_key_in(named) or f"kafka://{origin}"


def stated_key_in(named: Mapping[str, bytes | None]) -> str | None:
    """The idempotency key that the headers state, by ``idempotency-key`` or source and id; None where neither does."""
    explicit = text_in(named, IDEMPOTENCY_KEY)
    if explicit:
        return explicit
    event_id, source = text_in(named, CE_ID), text_in(named, CE_SOURCE)
    return f"{source.replace('#', '%23')}#{event_id}" if event_id and source else None


def without_bridge(headers: Iterable[Header]) -> list[Header]:
    """The headers that are not the bridge's own, order and duplicates kept."""
    return [header for header in headers if not header[0].startswith(BRIDGE_PREFIX)]


def identify(record: Record, named: Mapping[str, bytes | None] | None = None, *, trusted: bool) -> Identity:
    """Identity of a record; ``named`` are its headers where they were read already. ``trusted`` is true for the group's
    own lanes, where ``bridge-origin`` is the bridge's own word."""
    if named is None:
        named = dict(record.headers)
    origin = record.position
    if trusted:
        stated = text_in(named, ORIGIN)
        origin = (parse_position(stated) if stated else None) or origin
    return Identity(idempotency_key_in(named, origin), origin)
