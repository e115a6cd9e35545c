"""Watches the run from outside: the files that services and workers write, read on from where the last look ended."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from demo.places import RunFolder

TOLD = (
    "partitions_assigned",
    "claim_taken_over",
    "lease_lost",
    "claim_stale",
    "breaker_opened",
    "breaker_closed",
    "route_paused",
    "route_resumed",
    "redis_lost",
    "kafka_lost",
    "commit_failed",
    "message_dead_lettered",
    "attempt_failed",
    "worker_stopped",
    "route_failed",
)
"""Events of the workers' logs that the demo tells about."""


class Seen(NamedTuple):
    """One event of a worker's log. ``at_s`` is since the epoch."""

    at_s: float
    worker: str
    event: str
    fields: dict[str, object]


@dataclass
class Tail:
    """A file that grows: each look gives the whole lines that were added since the last one."""

    path: Path
    _read: int = 0
    _rest: bytes = b""

    def lines(self) -> list[bytes]:
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                added = file.read()
        except FileNotFoundError:
            return []
        self._read += len(added)
        *whole, self._rest = (self._rest + added).split(b"\n")
        return whole


@dataclass
class Watch:
    """Counts so far: records sent, payments' effects by kind, and what the workers logged."""

    folder: RunFolder
    sent: int = 0
    effects: Counter[str] = field(default_factory=Counter)
    seen: list[Seen] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    _tails: dict[Path, Tail] = field(default_factory=dict)

    def look(self) -> None:
        """Read on in every file."""
        self.sent += len(self._added(self.folder.manifest))
        for line in self._added(self.folder.effects):
            kind = line.partition(b'"kind":"')[2].partition(b'"')[0]
            self.effects[kind.decode()] += 1
        for path in self.folder.worker_logs():
            for line in self._added(path):
                self._note(path.stem, line)

    def _added(self, path: Path) -> list[bytes]:
        return self._tails.setdefault(path, Tail(path)).lines()

    def _note(self, worker: str, line: bytes) -> None:
        try:
            found = json.loads(line)
        except ValueError:
            return  # a traceback, say; the log keeps it
        event = found.get("event")
        if event in TOLD:
            self.events[event] += 1
            at_s = datetime.fromisoformat(found["timestamp"]).timestamp()
            self.seen.append(Seen(at_s, worker, event, found))

    def between(self, event: str, from_s: float, to_s: float) -> list[Seen]:
        """The events of that name from ``from_s`` up to ``to_s``, since the epoch."""
        return [one for one in self.seen if one.event == event and from_s <= one.at_s < to_s]

    def assigned(self, worker: str) -> bool:
        """Whether that worker takes part: it was given partitions of the source topic."""
        return any(one.worker == worker and one.event == "partitions_assigned" for one in self.seen)
