"""Values that travel: records as Kafka holds them, messages as handlers see them.

A *record* is bytes with a place in the log. A *message* is a record whose headers were read and whose value was decoded
under its contract.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

Header = tuple[str, bytes | None]
"""One Kafka header. Names may repeat, order matters, a value may be null or empty."""


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Position(NamedTuple):
    """One place in the log. As a text: ``topic/partition/offset``."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(slots=True)
class Record:
    """A record read from Kafka, byte for byte. A null ``value`` is a tombstone. ``timestamp_ms`` is since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header] = ()

    @property
    def position(self) -> Position:
        """Where the record is in the log."""
        return Position(self.topic, self.partition, self.offset)


@dataclass(slots=True)
class OutgoingRecord:
    """A record to be written. Without ``partition`` the key decides (Java's murmur2, or any partition without a
    key)."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Sequence[Header] = ()
    partition: int | None = None
    timestamp_ms: int | None = None


@dataclass(slots=True, frozen=True)
class SchemaRef:
    """Which contract a value was written under: the subject, its version from 1, and the id on the wire."""

    subject: str
    version: int
    schema_id: int


@dataclass(slots=True)
class Message(Generic[T]):
    """A decoded record as a handler sees it.

    ``value`` is a plain dict, or the pydantic model the handler asked for, or None for a tombstone. The CloudEvents
    attributes are None where the record does not carry them. ``idempotency_key`` is never empty: see
    ``headers.identify``.
    ``origin`` is the place in the source topic, also when the record came by a retry or redrive lane.
    """

    value: T
    key: bytes | None
    headers: Sequence[Header]
    origin: Position
    timestamp_ms: int
    idempotency_key: str
    schema: SchemaRef | None = None
    event_id: str | None = None
    event_source: str | None = None
    event_type: str | None = None
    event_time: str | None = None
    event_subject: str | None = None
    traceparent: str | None = None
    correlation_id: str | None = None
    deadline_ms: int | None = None
    replay_id: str | None = None
    extra: dict[str, str] = field(default_factory=dict)
