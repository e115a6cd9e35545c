"""What really happened, as plain data: read from Kafka and from the services' own files, not asked of the bridge."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

Header = tuple[str, bytes | None]
POISON = frozenset({"poison-bytes", "poison-schema-id"})
ORIGIN_HEADER = "bridge-origin"
BRIDGE_PREFIX = "bridge-"


class Place(NamedTuple):
    """A record's partition and offset in its topic."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}/{self.offset}"


class Sent(NamedTuple):
    """One line of orders' manifest: Kafka acknowledged this record. ``duplicate``: the second sending of its id."""

    id: str
    source: str
    kind: str
    duplicate: bool
    key: str
    place: Place
    schema_version: int
    amount_cents: int

    @property
    def is_poison(self) -> bool:
        return self.kind in POISON


@dataclass(slots=True)
class Stored:
    """One record as Kafka holds it."""

    place: Place
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()

    def header(self, name: str) -> str:
        """The last header of that name as text, empty where there is none."""
        found = [value for header, value in self.headers if header == name]
        return (found[-1] or b"").decode(errors="replace") if found else ""

    @property
    def id(self) -> str:
        return self.header("ce_id")

    @property
    def origin(self) -> str:
        """Of a dead letter: topic/partition/offset of the record it was."""
        return self.header(ORIGIN_HEADER)


class Effect(NamedTuple):
    """One line of payments' log. ``kind``: applied, repeat (already applied), refused, or fenced (stale worker)."""

    line: int
    kind: str
    key: str
    order_id: str
    customer_id: str
    amount_cents: int
    attempt: int
    crashes: int
    replay_id: str | None
    origin: str

    @property
    def is_announced(self) -> bool:
        """Whether the bridge said on the request that it may be a repeat."""
        return self.attempt > 1 or self.crashes > 0 or bool(self.replay_id)


class Captured(NamedTuple):
    """One PaymentCaptured record of the result topic, decoded."""

    place: Place
    order_id: str
    amount_cents: int


@dataclass(slots=True)
class Evidence:
    """Both sides of the books. ``topic`` is the source topic, ``acknowledged`` how many records orders says that Kafka
    took, ``audit`` what the bridge's own audit said (JSON)."""

    topic: str
    acknowledged: int = 0
    sent: list[Sent] = field(default_factory=list)
    records: list[Stored] = field(default_factory=list)
    letters: list[Stored] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    results: list[Captured] = field(default_factory=list)
    audit: dict[str, object] = field(default_factory=dict)
