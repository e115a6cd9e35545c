"""A worker played by hand, through the Protocols alone: the same situations on memory and on real servers."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field

from broker_bridge import headers as h
from broker_bridge.clock import Clock
from broker_bridge.core.claim import (
    ClaimRequest,
    ClaimStatus,
    SettleKind,
    Settlement,
    SettleStatus,
    pack_origin,
    pack_place,
)
from broker_bridge.core.dead_letter import Failure, write_dead_letter
from broker_bridge.core.identity import claim_key, payload_fingerprint, replay_tag
from broker_bridge.core.reconcile import BookEntry, Reconciliation, TargetLine, Terms
from broker_bridge.core.retry_record import write_retry
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.idempotency.memory import MemoryStore
from broker_bridge.message import Header, OutgoingRecord, Position, Record, TopicPartition
from broker_bridge.replay.reconciler import Reconciler
from broker_bridge.replay.route import ReplayRoute
from broker_bridge.transport.base import BatchProducer, LogReader, TopicSpec, Transport
from broker_bridge.transport.memory import MemoryTransport

TTL_MS = 7 * 86_400_000
LEASE_MS = 30_000
START_MS = 1_790_000_000_000


class ManualClock:
    """Time that passes only when somebody sleeps."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self._now_ms = float(now_ms)

    def now_ms(self) -> int:
        return int(self._now_ms)

    async def sleep_ms(self, delay_ms: float) -> None:
        self._now_ms += delay_ms
        await asyncio.sleep(0)


def a_route(prefix: str = "", *, max_hops: int = 3) -> ReplayRoute:
    """The route of the demo, with names that start with ``prefix``."""
    group, topic = f"{prefix}payments", f"{prefix}orders.placed"
    lane = f"{group}.{topic}"
    return ReplayRoute(
        name="payments",
        group=group,
        topic=topic,
        dead_letter_topic=f"{lane}.dlq",
        redrive_topic=f"{lane}.redrive",
        retry_topics=(f"{lane}.retry-2s",),
        output_topic=f"{prefix}payments.captured",
        max_hops=max_hops,
        claim_ttl_ms=TTL_MS,
        keeps_order=True,
    )


@dataclass
class World:
    """Topics, claims and offsets of one route, and the moves of a worker."""

    transport: Transport
    store: IdempotencyStore
    clock: Clock
    route: ReplayRoute
    partitions: int = 2
    reader: LogReader = field(init=False)
    producer: BatchProducer = field(init=False)
    _ids: itertools.count[int] = field(default_factory=itertools.count)

    @classmethod
    def in_memory(cls, **changes: int) -> World:
        clock = ManualClock()
        return cls(MemoryTransport(clock), MemoryStore(clock, claim_ttl_ms=TTL_MS), clock, a_route(**changes))

    async def start(self) -> World:
        self.reader, self.producer, admin = self.transport.reader(), self.transport.producer(), self.transport.admin()
        await admin.start()
        r = self.route
        names = [r.topic, r.dead_letter_topic, r.redrive_topic, *r.retry_topics, r.output_topic or ""]
        await admin.ensure([TopicSpec(name, self.partitions) for name in names if name])
        await admin.stop()
        await self.store.start()
        await self.reader.start()
        await self.producer.start()
        return self

    async def stop(self) -> None:
        await self.producer.stop()
        await self.reader.stop()
        await self.store.stop()

    # -- producing

    async def produce(
        self,
        count: int,
        *,
        partition: int = 0,
        key: str = "customer-{n}",
        event_id: str = "",
        value: bytes | None = None,
    ) -> list[Record]:
        """``count`` events in one partition; without ``event_id`` and ``value`` each has its own."""
        records = []
        for _ in range(count):
            n = next(self._ids)
            headers: list[Header] = [("ce_id", (event_id or f"o-{n}").encode()), ("ce_source", b"/shop/orders")]
            payload = f"value {n}".encode() if value is None else value
            records.append(OutgoingRecord(self.route.topic, payload, key.format(n=n).encode(), headers, partition))
        return await self.write(records)

    async def write(self, records: list[OutgoingRecord]) -> list[Record]:
        positions = await self.producer.send_batch(records)
        assert all(isinstance(position, Position) for position in positions), positions
        found = await self.reader.fetch([position for position in positions if isinstance(position, Position)])
        assert all(found)
        return [record for record in found if record is not None]

    # -- the worker's moves

    async def claim(self, record: Record) -> Callable[..., Settlement] | None:
        """Claim the record; None where the store says that there is nothing to do."""
        identity = h.identify(record, trusted=record.topic != self.route.topic)
        key = claim_key(identity.idempotency_key, namespace=self.route.topic)
        nonce, attempt = os.urandom(8), h.int_of(record.headers, h.ATTEMPT, 0)
        request = ClaimRequest(
            key,
            nonce,
            payload_fingerprint(record.value),
            pack_origin(*identity.origin),
            attempt,
            replay_tag(h.text_of(record.headers, h.REPLAY_ID)),
        )
        answer = (await self.store.claim(self.route.group, [request], lease_ms=LEASE_MS))[0]
        if answer.status is not ClaimStatus.GRANTED:
            return None
        return lambda kind, **extra: Settlement(key, nonce, answer.token, kind, **extra)

    async def _settle(self, settlement: Settlement) -> None:
        assert await self.store.settle(self.route.group, [settlement], ttl_ms=TTL_MS) == [SettleStatus.OK]

    async def complete(self, record: Record, *, output: bool = False) -> bool:
        held = await self.claim(record)
        if held is None:
            return False
        if output and self.route.output_topic:
            event_id = h.text_of(record.headers, h.CE_ID) or str(record.position)
            found: list[Header] = [("ce_id", f"{event_id}.out".encode()), ("causation-id", event_id.encode())]
            await self.write([OutgoingRecord(self.route.output_topic, b"result", record.key, found, record.partition)])
        await self._settle(held(SettleKind.COMPLETE))
        return True

    async def die(
        self, record: Record, code: str = "target_rejected", target_code: str = "card_expired"
    ) -> Record | None:
        held = await self.claim(record)
        if held is None:
            return None
        letter = await self.write_letter(record, code, target_code)
        await self._settle(held(SettleKind.DEAD, detail=pack_place(letter.partition, letter.offset)))
        return letter

    async def write_letter(self, record: Record, code: str, target_code: str = "") -> Record:
        identity = h.identify(record, trusted=record.topic != self.route.topic)
        now_ms = self.clock.now_ms()
        failure = Failure(code, "RejectedError", "no <b>thanks</b>", target_code, 1, now_ms - 5, now_ms)
        outgoing = write_dead_letter(
            record,
            topic=self.route.dead_letter_topic,
            origin=identity.origin,
            timestamp_ms=h.int_of(record.headers, h.ORIGIN_TIMESTAMP_MS, record.timestamp_ms),
            group=self.route.group,
            service="payments",
            failure=failure,
            include_message=True,
        )
        return (await self.write([outgoing]))[0]

    async def to_retry(self, record: Record, *, copy: bool = True) -> None:
        held = await self.claim(record)
        assert held is not None
        if copy:
            await self.park(record, first_failure_ms=self.clock.now_ms())
        await self._settle(held(SettleKind.RETRY, attempt=1))

    async def park(self, record: Record, *, first_failure_ms: int | None = None) -> None:
        outgoing = write_retry(
            record,
            topic=self.route.retry_topics[0],
            origin=record.position,
            origin_timestamp_ms=record.timestamp_ms,
            group=self.route.group,
            attempt=1,
            due_ms=0,
            now_ms=self.clock.now_ms(),
            first_failure_ms=first_failure_ms,
        )
        await self.write([outgoing])

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit as a member of the group."""
        topics = sorted({tp.topic for tp in offsets})
        member = self.transport.consumer(group=self.route.group, topics=topics)
        await member.start()
        async with asyncio.timeout(30):
            while not set(offsets) <= set(member.assignment()):
                await member.poll(max_records=1, timeout_ms=100)
        await member.commit(offsets)
        await member.stop()

    async def commit_all(self, *topics: str) -> None:
        """Commit the ends of these topics (default: the source)."""
        ends = await self.reader.offsets(list(topics) or [self.route.topic])
        await self.commit({tp: end for tp, (_, end) in ends.items() if end})

    async def read_all(self, topic: str) -> list[Record]:
        bounds = await self.reader.offsets([topic])
        found: list[Record] = []
        async for batch in self.reader.read(
            {tp: b[0] for tp, b in bounds.items()}, {tp: b[1] for tp, b in bounds.items()}
        ):
            found.extend(batch)
        return found

    async def work_redrive(self, *, dies: Callable[[Record], bool] = lambda _: False) -> tuple[int, int, int]:
        """Consume the redrive lane whole, as the group does; (completed, died, skipped)."""
        completed = died = skipped = 0
        committed = await self.reader.group_offsets(self.route.group, [self.route.redrive_topic])
        for record in await self.read_all(self.route.redrive_topic):
            if record.offset < (committed[TopicPartition(record.topic, record.partition)] or 0):
                continue
            if dies(record):
                done = await self.die(record) is not None
                died += done
            else:
                done = await self.complete(record)
                completed += done
            skipped += not done
        await self.commit_all(self.route.redrive_topic)
        return completed, died, skipped


def reconcile(
    books: Iterable[BookEntry],
    log: Iterable[TargetLine],
    *,
    topic: str,
    covers: Callable[[Position], bool] | None = None,
    is_ordered: bool = True,
    terms: Terms = Terms(),  # noqa: B008
) -> Reconciliation:
    """Both sides of the books, compared."""
    with closing(Reconciler(topic)) as reconciler:
        for entry in books:
            reconciler.enter(entry)
        for line in log:
            reconciler.line(line, covers)
        return reconciler.compare(terms, is_ordered=is_ordered)
