"""What a dead letter looks like: the record as it was, plus everything an operator needs.

Key, value, timestamp and the original headers are kept byte for byte (invariant I14). What the bridge adds is under its
one prefix and is replaced, never appended, when a record dies again. Messages are opt-in, because they may carry
personal data; they are scrubbed of control characters and capped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from broker_bridge import headers as h
from broker_bridge.core.fingerprint import fingerprint
from broker_bridge.message import Header, OutgoingRecord, Position, Record

MAX_HEADER_BYTES = 2_048
"""Cap of one added header's value."""


@dataclass(slots=True, frozen=True)
class Failure:
    """Why a message could not be handled. ``attempts`` counts those spent; times are ms since the epoch.

    ``error_class`` is the reporter's own class name, ``target_code`` the target's own word for it (a problem's
    ``code``, an exception's name, an unknown schema id).
    """

    code: str
    error_class: str
    message: str
    target_code: str
    attempts: int
    first_ms: int
    last_ms: int

    @property
    def fingerprint(self) -> str:
        """The kind of failure this is."""
        return fingerprint(self.code, self.target_code)


class _ReadWhenAsked:
    """The fields of a letter that was read are read from its record's headers when they are first asked for: of a
    million letters that are grouped, most fields never are."""

    __slots__ = ("_named",)

    if not TYPE_CHECKING:  # there it would answer to any name

        def __getattr__(self, name: str) -> Any:
            """Called where the slot of ``name`` is still empty, and by whoever asks for what there is not."""
            read = _READERS.get(name)
            if read is None:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
            value = read(self.record, self._named)
            object.__setattr__(self, name, value)
            return value


@dataclass(slots=True, frozen=True)
class DeadLetter(_ReadWhenAsked):
    """A record of a dead-letter topic, read. ``position`` is its own place there, ``origin`` the place it came from.

    ``headers`` are the original ones. ``hops`` says how often it had been replayed before it died this time,
    ``replay_id`` by which replay last. ``trace`` is the traceparent at the time of failure. ``edited_from`` is the
    payload fingerprint (hex) of the value as produced where a replay had changed it, ``release`` which release of the
    service reported the failure; empty where not so or not known. ``writer`` names who wrote the letter where that was
    not the bridge (``core.foreign_letters``). ``record`` is what all this was read from, byte for byte; None for a
    letter that stands in no topic.
    """

    position: Position
    origin: Position
    group: str
    failure: Failure
    service: str
    hops: int
    replay_id: str | None
    trace: str | None
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    timestamp_ms: int
    idempotency_key: str
    edited_from: str = ""
    release: str = ""
    writer: str = ""
    record: Record | None = field(default=None, repr=False, compare=False)


def scrub(text: str, *, max_bytes: int = MAX_HEADER_BYTES) -> bytes:
    """Text that is safe in a header: no control characters, at most ``max_bytes`` of UTF-8, cut at a character."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return printable.encode(errors="replace")[:max_bytes].decode(errors="ignore").encode()


def write_dead_letter(
    record: Record,
    *,
    topic: str,
    origin: Position,
    timestamp_ms: int,
    group: str,
    service: str,
    failure: Failure,
    include_message: bool,
    release: str = "",
) -> OutgoingRecord:
    """The dead letter of ``record`` for dead-letter topic ``topic``, in the partition of its origin.

    ``timestamp_ms`` is the original one (a record that came by a retry lane has the lane's own). A replayed record
    keeps its replay id and hop count; in a record of the source topic they would be an outsider's word.
    """
    ours = () if record.position == origin else record.headers
    added: list[Header] = [
        (h.ORIGIN, str(origin).encode()),
        (h.GROUP, group.encode()),
        (h.SERVICE, scrub(service)),
        (h.ATTEMPT, str(failure.attempts).encode()),
        (h.FIRST_FAILURE_MS, str(failure.first_ms).encode()),
        (h.LAST_FAILURE_MS, str(failure.last_ms).encode()),
        (h.ERROR_CODE, failure.code.encode()),
        (h.ERROR_CLASS, scrub(failure.error_class)),
        (h.TARGET_CODE, scrub(failure.target_code)),
        (h.FINGERPRINT, failure.fingerprint.encode()),
        (h.HOPS, str(h.int_of(ours, h.HOPS, 0)).encode()),
    ]
    if include_message:
        added.append((h.ERROR_MESSAGE, scrub(failure.message)))
    if release:
        added.append((h.RELEASE, scrub(release)))
    replayed = ((name, h.text_of(ours, name)) for name in (h.REPLAY_ID, h.EDITED_FROM))
    added.extend((name, kept.encode()) for name, kept in replayed if kept)
    trace = h.text_of(record.headers, h.TRACEPARENT)
    if trace:
        added.append((h.TRACE, trace.encode()))
    return OutgoingRecord(
        topic=topic,
        key=record.key,
        value=record.value,
        headers=h.without_bridge(record.headers) + added,
        partition=origin.partition,
        timestamp_ms=timestamp_ms,
    )


def read_dead_letter(record: Record) -> DeadLetter:
    """A record of a dead-letter topic of ours, read back. What is missing reads as empty, never as an error."""
    letter, put = _blank(DeadLetter), object.__setattr__
    put(letter, "record", record)
    put(letter, "_named", dict(record.headers))
    put(letter, "position", Position(record.topic, record.partition, record.offset))
    put(letter, "key", record.key)
    put(letter, "value", record.value)
    return letter


_blank = DeadLetter.__new__
Named = Mapping[str, bytes | None]


def _failure(record: Record, named: Named) -> Failure:
    return Failure(
        h.text_in(named, h.ERROR_CODE) or "unknown",
        h.text_in(named, h.ERROR_CLASS) or "",
        h.text_in(named, h.ERROR_MESSAGE) or "",
        h.text_in(named, h.TARGET_CODE) or "",
        h.int_in(named, h.ATTEMPT, 0),
        h.int_in(named, h.FIRST_FAILURE_MS, record.timestamp_ms),
        h.int_in(named, h.LAST_FAILURE_MS, record.timestamp_ms),
    )


def _origin(record: Record, named: Named) -> Position:
    stated = h.text_in(named, h.ORIGIN)
    return (h.parse_position(stated) if stated else None) or record.position


_READERS: dict[str, Callable[[Record, Named], object]] = {
    "origin": _origin,
    "group": lambda _, named: h.text_in(named, h.GROUP) or "",
    "failure": _failure,
    "service": lambda _, named: h.text_in(named, h.SERVICE) or "",
    "hops": lambda _, named: h.int_in(named, h.HOPS, 0),
    "replay_id": lambda _, named: h.text_in(named, h.REPLAY_ID),
    "trace": lambda _, named: h.text_in(named, h.TRACE),
    "headers": lambda record, _: tuple(h.without_bridge(record.headers)),
    "timestamp_ms": lambda record, _: record.timestamp_ms,
    # none of the headers that make a key is the bridge's own
    "idempotency_key": lambda record, named: h.stated_key_in(named) or f"kafka://{_origin(record, named)}",
    "edited_from": lambda _, named: h.text_in(named, h.EDITED_FROM) or "",
    "release": lambda _, named: h.text_in(named, h.RELEASE) or "",
    "writer": lambda *_: "",
}


def write_redrive(
    letter: DeadLetter, *, topic: str, replay_id: str, now_ms: int, item: int | None = None, order: str = ""
) -> OutgoingRecord:
    """The record that brings a dead letter back to its group: redrive lane ``topic``, one hop more, attempts from
    zero. ``item`` is its number in the plan, ``order`` what to do where a newer message of its key was completed."""
    added: list[Header] = [
        (h.ORIGIN, str(letter.origin).encode()),
        (h.ORIGIN_TIMESTAMP_MS, str(letter.timestamp_ms).encode()),
        (h.GROUP, letter.group.encode()),
        (h.REPLAY_ID, replay_id.encode()),
        (h.HOPS, str(letter.hops + 1).encode()),
        (h.DEAD_LETTER, str(letter.position).encode()),
    ]
    if item is not None:
        added.append((h.REPLAY_ITEM, str(item).encode()))
    if order:
        added.append((h.ORDER, order.encode()))
    if letter.edited_from:
        added.append((h.EDITED_FROM, letter.edited_from.encode()))
    return OutgoingRecord(
        topic=topic,
        key=letter.key,
        value=letter.value,
        headers=list(letter.headers) + added,
        partition=letter.origin.partition,
        timestamp_ms=now_ms,
    )
