"""What is known of one experiment, as plain values: what was sent, delivered, done, settled, and what was done to it.

Every time is in milliseconds of the machine's monotonic clock, which all processes of one machine share and no fault
here can move.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from broker_bridge.core.reconcile import BookEntry
from broker_bridge.headers import parse_position
from broker_bridge.message import Position

OK = "ok"
"""The outcome of a delivery that the target took."""


def now_ms() -> float:
    """The clock of all evidence."""
    return time.monotonic_ns() / 1e6


class Sent(NamedTuple):
    """One record that the harness sent. ``kind`` is what the workload meant by it. ``position`` is where Kafka said it
    is; without one nobody knows whether it is in the log."""

    key: str
    record_key: str
    kind: str
    position: Position | None


class Delivery(NamedTuple):
    """One call of the target. ``ended_ms`` and ``outcome`` (``ok`` or an error code) are None where it never ended:
    its worker was gone before."""

    key: str
    record_key: str
    origin: Position
    token: int
    attempt: int
    crashes: int
    worker: int
    started_ms: float
    ended_ms: float | None = None
    outcome: str | None = None


class Effect(NamedTuple):
    """Something the target did, as its own log has it; without such a log, a delivery that ended well."""

    key: str
    token: int
    attempt: int
    crashes: int
    at_ms: float


What = Literal["died", "paused", "blocked", "redis_away", "redis_lost_writes"]


class Happening(NamedTuple):
    """Something that befell a worker (``worker`` is its pid) or a server, from ``from_ms`` to ``until_ms``."""

    what: What
    from_ms: float
    until_ms: float
    worker: int = 0


@dataclass
class Evidence:
    """All of it.

    ``entries`` are the books of the audit, ``unaccounted`` why it could not account for a record, ``letters`` the
    records that a dead letter was found of, ``group_moved_back`` the partitions whose committed offset was seen to
    decrease (I4).
    """

    sent: list[Sent] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    entries: list[BookEntry] = field(default_factory=list)
    happenings: list[Happening] = field(default_factory=list)
    group_moved_back: list[str] = field(default_factory=list)
    books_add_up: bool = True
    unaccounted: dict[Position, str] = field(default_factory=dict)
    letters: set[Position] = field(default_factory=set)


def read_deliveries(path: Path) -> list[Delivery]:
    """The calls that observed workers wrote down, in the order they started."""
    open_calls: dict[tuple[int, int], Delivery] = {}
    for line in ndjson(path):
        call = (line["worker"], line["call"])
        if line["what"] == "start":
            origin = parse_position(line["origin"])
            assert origin is not None, line
            open_calls[call] = Delivery(
                line["key"], line["record_key"], origin, line["token"], line["attempt"], line["crashes"],
                line["worker"], line["at_ms"],
            )  # fmt: skip
        else:
            open_calls[call] = open_calls[call]._replace(ended_ms=line["at_ms"], outcome=line["outcome"])
    return sorted(open_calls.values(), key=lambda delivery: delivery.started_ms)


def read_effects(path: Path) -> list[Effect]:
    """The lines of an effect log of ours, in the order they were written."""
    return [
        Effect(line["key"], line["token"], line["attempt"], line["crashes"], line["at_ms"]) for line in ndjson(path)
    ]


def effects_of(deliveries: list[Delivery]) -> list[Effect]:
    """The deliveries that ended well, where the target keeps no log that we could read."""
    ended = [d for d in deliveries if d.outcome == OK and d.ended_ms is not None]
    return [Effect(d.key, d.token, d.attempt, d.crashes, d.started_ms) for d in ended]


def ndjson(path: Path) -> Iterator[dict[str, Any]]:
    """Whole lines only: a worker that was killed may have left half of one."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)
