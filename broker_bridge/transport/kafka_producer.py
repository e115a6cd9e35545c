"""Writing to Kafka with acks=all, idempotence and a deadline on every batch.

``send_batch`` builds one Kafka batch a partition and waits for one future each, instead of one future a record.
aiokafka numbers such batches like its own (a sequence is given when the sender takes the batch, and kept on retries),
so idempotence holds for them.

Why a missed deadline costs the producer. aiokafka retries an idempotent batch for ever::

    caller     send_batch(A) ......... deadline: "A is unknown" ─ send_batch(B) ─ B acknowledged ─ ...
    aiokafka   A → broker hangs ... retry ... retry ............................................. A written, after B

so the producer is thrown away with the deadline: its sender is cancelled and its connections are cut, and the next call
makes a new one. What remains is a request that the broker had already received: it may still be written, once. That is
what ``DeliveryTimeoutError`` says: such a record may be in the log, also after records sent later. Its idempotency key
sorts that out, and nothing else is affected.

Why a refused batch costs the producer as well. The refused batch has used up sequence numbers; the broker would answer
every later batch of that partition with OutOfOrderSequence. Calls under way on other partitions finish on the old
producer; new calls get a new one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from aiokafka import errors as kafka
from aiokafka.producer.message_accumulator import BatchBuilder

from broker_bridge.errors import DeliveryTimeoutError, RecordTooLargeError, TopicMissingError, TransportError
from broker_bridge.message import Header, OutgoingRecord, Position, TopicPartition
from broker_bridge.transport.kafka_errors import HANDLED, mapped, translated
from broker_bridge.transport.kafka_session import ProducerSession
from broker_bridge.transport.kafka_settings import KafkaSettings
from broker_bridge.transport.partitioning import partition_of

Answers = list[Position | TransportError | None]


class _Batch:
    """One Kafka batch: the builder, and which records of the call it holds."""

    __slots__ = ("builder", "indices")

    def __init__(self, builder: BatchBuilder) -> None:
        self.builder = builder
        self.indices: list[int] = []


class KafkaProducer:
    """``BatchProducer`` on Kafka. Made by ``KafkaTransport.producer``. Calls may overlap."""

    def __init__(self, settings: KafkaSettings, *, delivery_timeout_ms: int) -> None:
        self._settings = settings
        self._delivery_timeout_ms = delivery_timeout_ms
        self._session: ProducerSession | None = None
        self._parted: set[ProducerSession] = set()
        self._making = asyncio.Lock()
        self._running = False
        self._keyless = 0

    async def start(self) -> None:
        """See ``BatchProducer.start``. Raises ``TransportError`` where no broker answers within the deadline."""
        await self._acquire(self._deadline())
        self._running = True

    async def stop(self) -> None:
        """See ``BatchProducer.stop``."""
        self._running = False
        session, self._session = self._session, None
        if session is not None:
            await session.close(timeout_ms=self._delivery_timeout_ms)
        for parted in self._parted:
            await parted.gone()
        self._parted.clear()

    async def send_batch(self, records: Sequence[OutgoingRecord]) -> list[Position | TransportError]:
        """See ``BatchProducer.send_batch``."""
        if not self._running:
            raise TransportError("the producer is not started, or was stopped", remedy="call start() first")
        deadline = self._deadline()
        answers: Answers = [None] * len(records)
        session = await self._acquire(deadline)
        with session.used():
            counts = await self._partition_counts(session, _wanted(records), deadline)
            shares = self._share_out(records, counts, answers)
            waiting = {tp: self._build(session, records, indices, answers) for tp, indices in shares.items()}
        while waiting := {tp: batches for tp, batches in waiting.items() if batches}:
            if session.retired:
                try:
                    session = await self._acquire(deadline)
                except TransportError as error:
                    _fill_all(answers, waiting, error)
                    break
            with session.used():
                await self._send_round(session, deadline, records, waiting, answers)
        return [answer if answer is not None else _unknown("the call ended early") for answer in answers]

    # -- which partition

    async def _partition_counts(
        self, session: ProducerSession, wanted: dict[str, int], deadline: float
    ) -> dict[str, int]:
        """Partition counts of those that exist. Nothing was tried yet, so trouble is raised."""
        try:
            with translated(self._settings.bootstrap):
                async with asyncio.timeout_at(deadline):
                    return await session.partition_counts(wanted)
        except TransportError:
            self._retire(session)
            raise

    def _share_out(
        self, records: Sequence[OutgoingRecord], counts: dict[str, int], answers: Answers
    ) -> dict[TopicPartition, list[int]]:
        """Which records go to which partition, in the order given. Keyless ones of a call go together."""
        shares: dict[tuple[str, int], list[int]] = {}
        self._keyless += 1
        for index, record in enumerate(records):
            count = counts.get(record.topic, 0)
            partition = record.partition
            if partition is None and count:
                partition = partition_of(record.key, count) if record.key is not None else self._keyless % count
            if partition is None or not 0 <= partition < count:
                answers[index] = TopicMissingError(
                    "the topic does not exist" if not count else f"the topic has only {count} partitions",
                    where=record.topic if partition is None else f"{record.topic}/{partition}",
                )
                continue
            share = shares.get((record.topic, partition))
            if share is None:
                shares[record.topic, partition] = [index]
            else:
                share.append(index)
        return {TopicPartition(*tp): indices for tp, indices in shares.items()}

    def _build(
        self, session: ProducerSession, records: Sequence[OutgoingRecord], indices: Sequence[int], answers: Answers
    ) -> deque[_Batch]:
        """As few batches as the size limit allows. A record that is too large for any is answered, not sent."""
        limit = self._settings.max_request_bytes
        batches: deque[_Batch] = deque()
        batch: _Batch | None = None
        for index in indices:
            record = records[index]
            headers = list(record.headers)
            if batch is None or not _append(batch, record, headers):
                batch = _Batch(session.client.create_batch())
                _append(batch, record, headers)
                size = batch.builder.size()
                if size > limit:
                    answers[index] = RecordTooLargeError(
                        f"the record has {size} bytes, max_request_bytes is {limit}", where=record.topic
                    )
                    batch = None
                    continue
                batches.append(batch)
            batch.indices.append(index)
        return batches

    # -- sending

    async def _send_round(
        self,
        session: ProducerSession,
        deadline: float,
        records: Sequence[OutgoingRecord],
        waiting: dict[TopicPartition, deque[_Batch]],
        answers: Answers,
    ) -> None:
        """Send the first batch of every partition and wait for all. The next one follows only when it was acknowledged,
        so that a refused batch leaves no hole before records that were given later."""
        sent: dict[asyncio.Future[Any], TopicPartition] = {}
        try:
            async with asyncio.timeout_at(deadline):
                for tp, batches in waiting.items():
                    batches[0].builder.close()  # complete: no lingering
                    sent[await session.submit(batches[0].builder, tp)] = tp
                await asyncio.wait(sent)
        except (TimeoutError, *HANDLED):
            self._abandon(session)
        for future, tp in sent.items():
            if future.cancelled() or not future.done():
                _fill(answers, waiting[tp], _unknown("no acknowledgement before the delivery deadline"))
            elif (error := future.exception()) is not None:
                self._refused(session, tp, records, waiting[tp], answers, error)
            else:
                _place(answers, tp, waiting[tp].popleft(), future.result().offset)
        if session.dead:
            _fill_all(answers, waiting, _unknown("the producer was given up before these were acknowledged"))

    def _refused(
        self,
        session: ProducerSession,
        tp: TopicPartition,
        records: Sequence[OutgoingRecord],
        batches: deque[_Batch],
        answers: Answers,
        error: BaseException,
    ) -> None:
        """The broker (or aiokafka) said no to the first batch of ``batches``."""
        self._retire(session)
        where = f"{tp.topic}/{tp.partition}"
        if isinstance(error, kafka.MessageSizeTooLargeError | kafka.RecordListTooLargeError):
            refused = batches.popleft()
            if len(refused.indices) == 1:
                answers[refused.indices[0]] = mapped(error, where=where)
                return
            half = len(refused.indices) // 2
            for indices in (refused.indices[half:], refused.indices[:half]):
                batches.extendleft(reversed(self._build(session, records, indices, answers)))
            return
        if isinstance(error, kafka.OutOfOrderSequenceNumber | kafka.ProducerFenced | kafka.UnknownProducerId):
            _fill(answers, batches, TransportError(f"the producer lost its place in the log: {error!r}", where=where))
            return
        _fill(answers, batches, mapped(error, where=where))

    # -- the producer behind

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._delivery_timeout_ms / 1000

    async def _acquire(self, deadline: float) -> ProducerSession:
        """The producer in use, or a new one. Raises ``TransportError`` where none can be had before the deadline."""
        with translated(self._settings.bootstrap):
            async with asyncio.timeout_at(deadline), self._making:
                if self._session is None or self._session.retired:
                    self._session = await ProducerSession.opened(self._settings, self._delivery_timeout_ms)
                return self._session

    def _retire(self, session: ProducerSession) -> None:
        """New calls get a new producer; calls under way finish on this one."""
        self._part_from(session)
        session.retire()

    def _abandon(self, session: ProducerSession) -> None:
        """Nothing more may leave this producer."""
        self._part_from(session)
        session.abandon()

    def _part_from(self, session: ProducerSession) -> None:
        if self._session is session:
            self._session = None
        self._parted = {earlier for earlier in self._parted if not earlier.is_gone} | {session}


def _wanted(records: Sequence[OutgoingRecord]) -> dict[str, int]:
    """How many partitions each topic must have at least for these records to have a place."""
    wanted = dict.fromkeys({record.topic for record in records}, 1)
    for record in records:
        if record.partition is not None and record.partition >= wanted[record.topic]:
            wanted[record.topic] = record.partition + 1
    return wanted


def _append(batch: _Batch, record: OutgoingRecord, headers: list[Header]) -> bool:
    """False where the batch is full."""
    timestamp, key, value = record.timestamp_ms, record.key, record.value
    return batch.builder.append(timestamp=timestamp, key=key, value=value, headers=headers) is not None


def _place(answers: Answers, tp: TopicPartition, batch: _Batch, base_offset: int) -> None:
    if base_offset < 0:  # DuplicateSequence: written by an earlier try so long ago that the broker forgot where
        for index in batch.indices:
            answers[index] = _unknown("the broker has it already but does not say where")
        return
    for offset, index in enumerate(batch.indices, base_offset):
        answers[index] = Position(tp.topic, tp.partition, offset)


def _fill(answers: Answers, batches: deque[_Batch], error: TransportError) -> None:
    """The first batch and everything behind it in the partition get this answer; the rest was never sent."""
    while batches:
        for index in batches.popleft().indices:
            answers[index] = error


def _fill_all(answers: Answers, waiting: dict[TopicPartition, deque[_Batch]], error: TransportError) -> None:
    for batches in waiting.values():
        _fill(answers, batches, error)


def _unknown(detail: str) -> DeliveryTimeoutError:
    return DeliveryTimeoutError(f"{detail}: the record may or may not be in the log")
