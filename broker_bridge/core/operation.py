"""What an operator did: one value for each action, as one JSON record of the operations topic.

The record never holds a key, a header or a payload of a message (I27): counts, hashes, ids, places and reasons only.
``version`` rises when the meaning of a field changes; fields may be added without that, and readers pass over those
they do not know.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from broker_bridge.text import printable

OPERATION_VERSION: Final = 1
LONGEST_TEXT: Final = 1_024
"""Characters of a reason, a name or a text among the details."""
LARGEST_RECORD: Final = 65_536
"""Bytes of a record. What is larger was not written by us."""
_MOST_ENTRIES: Final = 64
_DEEPEST: Final = 3
_LATEST_MS: Final = 253_402_300_799_999
"""The end of the year 9999: no later time can be written as a date."""


class Action(enum.StrEnum):
    """What can be recorded. Readers take any word, for a newer version may know more."""

    REPLAY_PLANNED = "replay_planned"
    REPLAY_STARTED = "replay_started"
    REPLAY_PAUSE_REQUESTED = "replay_pause_requested"
    REPLAY_PAUSED = "replay_paused"
    """By the run itself: it sends nothing more until it is told to go on."""
    REPLAY_RESUME_REQUESTED = "replay_resume_requested"
    REPLAY_ENDED = "replay_ended"
    REPLAY_VERIFIED = "replay_verified"
    LETTERS_DISCARDED = "letters_discarded"
    LETTERS_IMPORTED = "letters_imported"
    LETTERS_EXPORTED = "letters_exported"


REPORTS: Final = frozenset((Action.REPLAY_PAUSED, Action.REPLAY_ENDED, Action.REPLAY_VERIFIED))
"""These say what is over already; the others are recorded before they begin."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Operation:
    """One action of an operator.

    ``id`` is unique; ``at_ms`` is the time on the operator's machine. ``by`` and ``host`` say who, ``why`` for what
    reason. ``route`` and ``group`` are empty where the action concerns no single one; ``plan_id`` and ``plan_sha256``
    where there is no plan. ``counts`` are numbers by heading, ``details`` other JSON values: ids, hashes, filters.
    """

    id: str
    at_ms: int
    action: str
    by: str
    host: str
    why: str = ""
    route: str = ""
    group: str = ""
    plan_id: str = ""
    plan_sha256: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


class Unreadable(NamedTuple):
    """A record that is no operation we can read, and why."""

    reason: str


@dataclass(slots=True, frozen=True)
class OperationFilter:
    """Which operations are wanted; what is empty or None does not filter. Times in milliseconds, ``until_ms`` not
    included. ``plan_id`` may be the beginning of an id."""

    route: str = ""
    actions: Sequence[str] = ()
    by: str = ""
    plan_id: str = ""
    since_ms: int | None = None
    until_ms: int | None = None

    def matches(self, operation: Operation) -> bool:
        """Whether the operation is wanted."""
        return (
            (not self.route or operation.route == self.route)
            and (not self.actions or operation.action in self.actions)
            and (not self.by or operation.by == self.by)
            and (not self.plan_id or operation.plan_id.startswith(self.plan_id))
            and (self.since_ms is None or operation.at_ms >= self.since_ms)
            and (self.until_ms is None or operation.at_ms < self.until_ms)
        )


def operation_value(operation: Operation) -> bytes:
    """The record's value: canonical JSON, no larger than ``LARGEST_RECORD``. Texts are made printable and cut; details
    that do not fit are left out, and it is told."""
    fields: dict[str, Any] = {"version": OPERATION_VERSION, "at_ms": operation.at_ms}
    fields |= {name: _text(getattr(operation, name)) for name in _TEXTS}
    fields["counts"] = {_text(name): int(count) for name, count in list(operation.counts.items())[:_MOST_ENTRIES]}
    fields["details"] = _fit(operation.details)
    value = _canonical(fields)
    if len(value) > LARGEST_RECORD:
        fields["details"] = {"left_out": f"details that made the record {len(value)} bytes large"}
        value = _canonical(fields)
    return value


def read_operation(value: bytes | None) -> Operation | Unreadable:
    """The operation of a record's value, or why it is none."""
    if value is None:
        return Unreadable("has no value")
    if len(value) > LARGEST_RECORD:
        return Unreadable(f"has {len(value)} bytes, an operation has at most {LARGEST_RECORD}")
    try:
        found = json.loads(value.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        return Unreadable(f"is no JSON, or was cut: {printable(str(error))[:200]}")
    if not isinstance(found, dict):
        return Unreadable("is JSON, but not an object")
    reason = _problem(found)
    if reason:
        return Unreadable(reason)
    texts = {name: found.get(name, "") for name in _TEXTS}
    return Operation(at_ms=found["at_ms"], counts=found.get("counts", {}), details=found.get("details", {}), **texts)


_NEEDED: Final = ("id", "action", "by", "host")
_TEXTS: Final = (*_NEEDED, "why", "route", "group", "plan_id", "plan_sha256")


def _problem(found: dict[str, Any]) -> str:
    """What is wrong with these fields; empty where they are an operation."""
    version = found.get("version", 0)
    if not _is_int(version) or version < 1:
        return "has no version: it was not written by broker-bridge"
    if version > OPERATION_VERSION:
        return f"has version {version}, this broker-bridge reads up to {OPERATION_VERSION}"
    if not _is_int(found.get("at_ms")) or not 0 <= found["at_ms"] <= _LATEST_MS:
        return "field at_ms is not a time in milliseconds"
    for name in _TEXTS:
        if not isinstance(found.get(name, ""), str):
            return f"field {name} is not a text"
        if name in _NEEDED and not found.get(name):
            return f"field {name} is missing or empty"
    for name in ("counts", "details"):
        if not isinstance(found.get(name, {}), dict):
            return f"field {name} is not an object"
    wrong = next((name for name, count in found.get("counts", {}).items() if not _is_int(count)), None)
    return "" if wrong is None else f"field counts: {_text(wrong)!r} is not a whole number"


def _canonical(fields: dict[str, Any]) -> bytes:
    """Sorted names, no spaces, UTF-8."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _text(text: str) -> str:
    shown = printable(text[: LONGEST_TEXT + 1])
    return shown if len(shown) <= LONGEST_TEXT else shown[: LONGEST_TEXT - 1] + "…"


def _fit(value: object, depth: int = 0) -> Any:
    """``value`` as JSON of bounded size. What is not JSON is told by its type alone: it may be a payload."""
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and abs(value) < float("inf")):
        return value
    if isinstance(value, str):
        return _text(value)
    if depth < _DEEPEST and isinstance(value, Mapping):
        return {_text(str(name)): _fit(item, depth + 1) for name, item in list(value.items())[:_MOST_ENTRIES]}
    if depth < _DEEPEST and isinstance(value, list | tuple):
        return [_fit(item, depth + 1) for item in value[:_MOST_ENTRIES]]
    return f"<{type(value).__name__}>"
