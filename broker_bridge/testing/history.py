"""What happened in a world in memory, event by event, in the order it happened.

``RecordingLog`` and ``RecordingStore`` note what reached the log and the store, also where the answer was lost on the
way; workers' lines note assignments and commits; a simulation's handler notes its own calls. ``testing.invariants``
judges the result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
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
    StoredClaim,
)
from broker_bridge.errors import TransportError
from broker_bridge.idempotency.memory import MemoryStore
from broker_bridge.message import OutgoingRecord, Position, Record, TopicPartition
from broker_bridge.transport.memory_log import MemoryLog


class Written(NamedTuple):
    """A record is in the log, whoever wrote it and whether or not the writer knows."""

    record: Record


class AcknowledgementLost(NamedTuple):
    """The record is in the log, and its writer is told that nobody knows."""

    position: Position


class Granted(NamedTuple):
    """A claim was granted; ``crashes`` counts how often it was taken over so far, ``lease_end_ms`` is when it ends.
    ``fingerprint`` and ``replay`` are those of the request."""

    key: bytes
    nonce: bytes
    token: int
    crashes: int
    lease_end_ms: int
    fingerprint: bytes
    replay: bytes


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
    detail: bytes = b""


class Lost(NamedTuple):
    """The store has lost what it acknowledged of these keys (window W3)."""

    keys: frozenset[bytes]


class StoreSilent(NamedTuple):
    """From here on a worker got no answer of the store."""

    worker: str


class StoreAnswered(NamedTuple):
    """The store answered that worker again."""

    worker: str


class Crashed(NamedTuple):
    """A worker is dead: nothing of what it still tries has an effect."""

    worker: str


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

    worker: str
    key: bytes
    origin: Position
    token: int


class Fault(NamedTuple):
    """Something was broken or mended on purpose."""

    what: str


Event: TypeAlias = (
    Written
    | AcknowledgementLost
    | Granted
    | Renewed
    | Settled
    | Lost
    | StoreSilent
    | StoreAnswered
    | Crashed
    | Committed
    | Assigned
    | Revoked
    | Started
    | Ended
    | Effect
    | Fault
)


class History:
    """Events with the time each happened, in ms of ``clock``. ``watch`` is told of each as it happens."""

    def __init__(self, clock: Clock, watch: Callable[[int, Event], None] | None = None) -> None:
        self._clock = clock
        self._watch = watch
        self.events: list[tuple[int, Event]] = []

    def add(self, event: Event) -> None:
        """It happens now."""
        now_ms = self._clock.now_ms()
        self.events.append((now_ms, event))
        if self._watch is not None:
            self._watch(now_ms, event)

    def __iter__(self) -> Iterator[tuple[int, Event]]:
        return iter(self.events)


class RecordingLog(MemoryLog):
    """A log that notes every record it holds."""

    def __init__(self, history: History) -> None:
        super().__init__()
        self._history = history
        self._written: list[Position] = []

    def append(self, outgoing: OutgoingRecord, *, now_ms: int) -> Position | TransportError:
        """See ``MemoryLog.append``."""
        self._written.clear()
        answer = super().append(outgoing, now_ms=now_ms)
        if self._written and not isinstance(answer, Position):
            self._history.add(AcknowledgementLost(self._written[0]))
        return answer

    def _write(self, outgoing: OutgoingRecord, now_ms: int) -> Position:
        position = super()._write(outgoing, now_ms)
        self._written.append(position)
        written = self.partition(TopicPartition(position.topic, position.partition)).at(position.offset)
        assert written is not None
        self._history.add(Written(written))
        return position


class RecordingStore(MemoryStore):
    """A store that notes every change it applies, and can lose the latest of them."""

    def __init__(self, clock: Clock, history: History) -> None:
        super().__init__(clock)
        self._history = history
        self._now_ms = clock.now_ms
        self.answered = False  # whether anybody can know what it held
        self._journal: deque[tuple[int, tuple[str, bytes], tuple[StoredClaim, int] | None]] = deque(maxlen=500)

    async def claim(self, group: str, requests: Sequence[ClaimRequest], *, lease_ms: int) -> list[ClaimAnswer]:
        """See ``MemoryStore.claim``."""
        answers = await super().claim(group, requests, lease_ms=lease_ms)
        self.answered = True
        return answers

    def forget_all(self) -> None:
        """See ``MemoryStore.forget_all``."""
        keys = frozenset(key for _, key in self._kept)
        super().forget_all()
        self._journal.clear()
        self._history.add(Lost(keys))

    def forget_latest(self, within_ms: int) -> None:
        """Lose what was written in the last ``within_ms``, as a failover to a replica that is behind would."""
        after_ms = self._now_ms() - within_ms
        keys: set[bytes] = set()
        while self._journal and self._journal[-1][0] >= after_ms:
            _, place, before = self._journal.pop()
            keys.add(place[1])
            self._kept.pop(place, None)
            if before is not None:
                self._kept[place] = before
        self._history.add(Lost(frozenset(keys)))

    def _write(self, group: str, key: bytes, stored: StoredClaim, ttl_ms: int) -> None:
        self._journal.append((self._now_ms(), (group, key), self._kept.get((group, key))))
        super()._write(group, key, stored, ttl_ms)

    def _claim_one(self, group: str, request: ClaimRequest, lease_ms: int) -> ClaimAnswer:
        answer = super()._claim_one(group, request, lease_ms)
        if answer.status is ClaimStatus.GRANTED:
            lease_end_ms = self._now_ms() + lease_ms
            self._history.add(
                Granted(
                    request.key,
                    request.nonce,
                    answer.token,
                    answer.crashes,
                    lease_end_ms,
                    request.fingerprint,
                    request.replay,
                )
            )
        return answer

    def _renew_one(self, group: str, held: Held, lease_ms: int) -> bool:
        kept = super()._renew_one(group, held, lease_ms)
        if kept:
            self._history.add(Renewed(held.key, held.token, self._now_ms() + lease_ms))
        return kept

    def _settle_one(self, group: str, settlement: Settlement, ttl_ms: int) -> SettleStatus:
        status = super()._settle_one(group, settlement, ttl_ms)
        if status is SettleStatus.OK:
            self._history.add(Settled(settlement.key, settlement.token, settlement.kind, settlement.detail))
        return status
