"""What the bridge needs of a log: read in a group, write with acknowledgement, browse, look after topics.

Two implementations pass one contract suite (``tests/contract/test_transport.py``): ``transport.kafka`` and
``transport.memory``. Every call may raise ``TransportError`` or a subclass; nothing else escapes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from broker_bridge.errors import TransportError
from broker_bridge.message import OutgoingRecord, Position, Record, TopicPartition

PartitionsHook = Callable[[frozenset[TopicPartition]], Awaitable[None]]
"""Called with the partitions gained or about to be given up. While ``on_revoked`` runs the partitions are still ours
and may be committed; it must return before the group's rebalance timeout."""


@dataclass(slots=True, frozen=True)
class TopicSpec:
    """A topic to exist: partition count always explicit; ``settings`` are Kafka topic settings such as
    ``retention.ms``."""

    name: str
    partitions: int
    replication: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)


class GroupConsumer(Protocol):
    """A member of a consumer group. Offsets are committed only by ``commit``, never on their own."""

    async def start(self) -> None:
        """Join the group. Raises ``TopicMissingError`` where a subscribed topic does not exist."""

    async def poll(self, *, max_records: int, timeout_ms: int) -> list[Record]:
        """Up to ``max_records`` records, in offset order within a partition; empty after ``timeout_ms`` without any.

        Raises ``OffsetOutOfRangeError`` where the group's position is not in the log: never skips silently. Its
        ``where`` is ``topic/partition/offset``, and polls say so again until that partition is paused. Raises what a
        hook raised. Nothing is returned between the start of ``on_revoked`` and the end of ``on_assigned``.
        """

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit the *next* offset to read of each partition. Raises ``LeaseLostError`` when a partition is not ours
        any more."""

    def pause(self, partitions: frozenset[TopicPartition]) -> None:
        """Stop fetching these; membership is kept as long as ``poll`` goes on. Idempotent; forgets itself on revoke."""

    def resume(self, partitions: frozenset[TopicPartition]) -> None:
        """Fetch these again. Idempotent."""

    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions that are ours now."""

    async def committed(self, partitions: frozenset[TopicPartition]) -> dict[TopicPartition, int | None]:
        """The group's committed next offset of each, None where there is none."""

    async def positions(self, partitions: frozenset[TopicPartition]) -> dict[TopicPartition, int]:
        """The next offset that ``poll`` will return of each, or a later one where that holds no record. Ours only."""

    async def stop(self) -> None:
        """Leave the group, calling ``on_revoked`` for what is held. Does not commit by itself. Idempotent."""


class BatchProducer(Protocol):
    """Writes with acks=all and idempotence."""

    async def start(self) -> None:
        """Connect."""

    async def send_batch(self, records: Sequence[OutgoingRecord]) -> list[Position | TransportError]:
        """Write all, wait for every acknowledgement, at most the delivery deadline (set at construction).

        The answer has one entry a record, in order: where it is now, or why it is not known to be there. Order per
        partition is the order given. Raises only when nothing was tried.
        """

    async def stop(self) -> None:
        """Flush within the delivery deadline and disconnect. Idempotent."""


class LogReader(Protocol):
    """Reads partitions outside any group: dead letters, audits, rebuilds. Leaves no trace on the broker."""

    async def start(self) -> None:
        """Connect."""

    async def offsets(self, topics: Sequence[str]) -> dict[TopicPartition, tuple[int, int]]:
        """Each partition's (first offset in the log, next offset to be written). Raises ``TopicMissingError``."""

    async def offsets_at(self, topics: Sequence[str], *, timestamp_ms: int) -> dict[TopicPartition, int]:
        """Each partition's first offset with a timestamp ≥ ``timestamp_ms``; the end offset where there is none."""

    def read(
        self, start: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]
    ) -> AsyncIterator[list[Record]]:
        """Batches of the records with start ≤ offset < end, each partition in order; ends by itself.

        Offsets that hold no record (transaction markers, compaction) are passed over; an ``end`` past the log's is the
        log's. Raises ``OffsetOutOfRangeError`` where ``start`` was already removed.
        """

    async def fetch(self, positions: Sequence[Position]) -> list[Record | None]:
        """These very records, in the order asked; None where the log has none there. Raises ``TopicMissingError``."""

    async def group_offsets(self, group: str, topics: Sequence[str]) -> dict[TopicPartition, int | None]:
        """What the group has committed, None where nothing."""

    async def stop(self) -> None:
        """Disconnect. Idempotent."""


class TopicAdmin(Protocol):
    """Looks after topics."""

    async def start(self) -> None:
        """Connect."""

    async def ensure(self, topics: Sequence[TopicSpec]) -> list[str]:
        """Create those that do not exist and return their names. Raises ``TransportError`` where one exists with
        fewer partitions."""

    async def describe(self, topics: Sequence[str]) -> dict[str, int | None]:
        """Partition count of each, None where the topic does not exist."""

    async def topics(self) -> list[str]:
        """Every topic that is not internal, sorted."""

    async def broker_count(self) -> int:
        """How many brokers the cluster has: no topic can have more copies."""

    async def settings(self, topic: str) -> Mapping[str, str]:
        """The topic's settings by Kafka's names, those it was created with at least. Raises ``TransportError``."""

    async def unsafe_settings(self, topics: Sequence[str]) -> list[str]:
        """What about these topics would break the guarantee (invariant I26), one sentence each; empty where sound."""

    async def stop(self) -> None:
        """Disconnect. Idempotent."""


class Transport(Protocol):
    """A log to work with: makes the four kinds of client."""

    def consumer(
        self,
        *,
        group: str,
        topics: Sequence[str],
        on_assigned: PartitionsHook | None = None,
        on_revoked: PartitionsHook | None = None,
        member: str | None = None,
    ) -> GroupConsumer:
        """A group member that starts at the earliest offset where nothing was committed, reads only committed
        transactions, and uses the range assignor, so that equal partition numbers of co-partitioned topics go to one
        member. ``member`` is a static member id."""

    def producer(self, *, delivery_timeout_ms: int = 30_000) -> BatchProducer:
        """A producer whose sends answer within ``delivery_timeout_ms``."""

    def reader(self) -> LogReader:
        """A reader without a group."""

    def admin(self) -> TopicAdmin:
        """A look after topics."""
