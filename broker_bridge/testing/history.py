"""What happened in a world in memory, event by event, in the order it happened.

``RecordingLog`` and ``RecordingStore`` note what reached the log and the store, also where the answer was lost on the
way; workers' lines note assignments and commits; a simulation's handler notes its own calls. ``testing.invariants``
judges the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from broker_bridge.clock import Clock
from broker_bridge.core.claim import (
    ClaimAnswer,
    ClaimRequest,
    ClaimStatus,
    Held,
    SettleKind,
    Settlement,
    SettleStatus,
)
from broker_bridge.idempotency.memory import MemoryStore
from broker_bridge.message import OutgoingRecord, Position, Record, TopicPartition
from broker_bridge.transport.memory_log import MemoryLog


class Written(NamedTuple):
    """A record is in the log, whoever wrote it and whether or not the writer knows."""

    record: Record


class Granted(NamedTuple):
    """A claim was granted; ``crashes`` counts how often it was taken over so far, ``lease_end_ms`` is when it ends."""

    key: bytes
    nonce: bytes
    token: int
    crashes: int
    lease_end_ms: int


class Renewed(NamedTuple):
    """A lease goes on."""

    key: bytes
    token: int
    lease_end_ms: int


class Settled(NamedTuple):
    """The store applied a settlement. A repetition of one that was applied is noted again."""

    key: bytes
    token: int
    kind: SettleKind


class Committed(NamedTuple):
    """The group took these offsets from a worker."""

    worker: str
    offsets: dict[TopicPartition, int]


class Assigned(NamedTuple):
    """A worker is about to be told of its partitions."""

    worker: str
    partitions: frozenset[TopicPartition]


class Revoked(NamedTuple):
    """A worker came back from ``on_revoked``."""

    worker: str
    partitions: frozenset[TopicPartition]


class Started(NamedTuple):
    """A handler was called."""

    worker: str
    key: bytes
    origin: Position
    token: int
    attempt: int


class Ended(NamedTuple):
    """A handler is done with the call of that token. ``spent``: the attempt counts."""

    worker: str
    key: bytes
    token: int
    spent: bool


class Effect(NamedTuple):
    """The handler had its effect."""

    key: bytes
    token: int


class Fault(NamedTuple):
    """Something was broken or mended on purpose."""

    what: str


Event: TypeAlias = (
    Written | Granted | Renewed | Settled | Committed | Assigned | Revoked | Started | Ended | Effect | Fault
)


class History:
    """Events with the time each happened, in ms of ``clock``."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.events: list[tuple[int, Event]] = []

    def add(self, event: Event) -> None:
        """It happens now."""
        self.events.append((self._clock.now_ms(), event))

    def __iter__(self) -> Iterator[tuple[int, Event]]:
        return iter(self.events)


class RecordingLog(MemoryLog):
    """A log that notes every record it holds."""

    def __init__(self, history: History) -> None:
        super().__init__()
        self._history = history

    def _write(self, outgoing: OutgoingRecord, now_ms: int) -> Position:
        position = super()._write(outgoing, now_ms)
        written = self.partition(TopicPartition(position.topic, position.partition)).at(position.offset)
        assert written is not None
        self._history.add(Written(written))
        return position


class RecordingStore(MemoryStore):
    """A store that notes every change it applies."""

    def __init__(self, clock: Clock, history: History) -> None:
        super().__init__(clock)
        self._history = history
        self._now_ms = clock.now_ms

    def _claim_one(self, group: str, request: ClaimRequest, lease_ms: int) -> ClaimAnswer:
        answer = super()._claim_one(group, request, lease_ms)
        if answer.status is ClaimStatus.GRANTED:
            lease_end_ms = self._now_ms() + lease_ms
            self._history.add(Granted(request.key, request.nonce, answer.token, answer.crashes, lease_end_ms))
        return answer

    def _renew_one(self, group: str, held: Held, lease_ms: int) -> bool:
        kept = super()._renew_one(group, held, lease_ms)
        if kept:
            self._history.add(Renewed(held.key, held.token, self._now_ms() + lease_ms))
        return kept

    def _settle_one(self, group: str, settlement: Settlement, ttl_ms: int) -> SettleStatus:
        status = super()._settle_one(group, settlement, ttl_ms)
        if status is SettleStatus.OK:
            self._history.add(Settled(settlement.key, settlement.token, settlement.kind))
        return status
