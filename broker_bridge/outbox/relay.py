"""The relay: takes rows out of the outbox's table and puts them into Kafka, in order within a key, at least once.

A round: lease buckets and read rows (one transaction) → send, wait for every acknowledgement → delete what was
acknowledged and give the buckets back (one transaction). A crash anywhere repeats rows under the same event id, which
consumers drop; it never loses one, and never changes the order of a key's first copies (``shelf`` says why).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from structlog.typing import FilteringBoundLogger

from broker_bridge.clock import Clock
from broker_bridge.database.session import Database, Session
from broker_bridge.errors import DatabaseError, TransportError
from broker_bridge.message import OutgoingRecord
from broker_bridge.observability import names
from broker_bridge.outbox.batch import Answer, Outcome, judged, readable, without_followers_of_large
from broker_bridge.outbox.blocked import Backoff, BlockedTopics
from broker_bridge.outbox.metrics import RelayMetrics
from broker_bridge.outbox.shelf import Counts, Shelf, Taken
from broker_bridge.outbox.tables import DEFAULT_TABLE
from broker_bridge.transport.base import BatchProducer

T = TypeVar("T")

PROGRESS_MS: Final = 10_000


@dataclass(slots=True, frozen=True, kw_only=True)
class RelaySettings:
    """How much at once, and how long to wait. Memory is bounded by ``batch_bytes`` plus one row.

    ``hold_keys``: events behind one that Kafka will not take wait until somebody decides about it; otherwise they go on
    without it. ``lease_ms`` is how long the keys of a killed relay wait for another.
    """

    table: str = DEFAULT_TABLE
    batch_rows: int = 1_000
    batch_bytes: int = 4_000_000
    buckets: int = 16
    lease_ms: int = 10_000
    poll_ms: int = 200
    backoff_ms: int = 200
    max_backoff_ms: int = 30_000
    hold_keys: bool = True


class RelayReport(NamedTuple):
    """What one run has done, and what it left."""

    sent: int
    set_aside: int
    waiting: int
    """Rows still in the table that are not set aside."""


class OutboxRelay:
    """Relays one outbox table. Run as many as you like, in as many processes."""

    def __init__(
        self,
        database: Database,
        producer: BatchProducer,
        *,
        owner: str,
        clock: Clock,
        log: FilteringBoundLogger,
        settings: RelaySettings | None = None,
        metrics: RelayMetrics | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._database = database
        self._producer = producer
        self._owner = owner
        self._clock = clock
        self._log = log
        self._settings = settings or RelaySettings()
        self._metrics = metrics or RelayMetrics()
        rng = rng or random.Random()  # noqa: S311 - jitter
        backoff = Backoff(self._settings.backoff_ms, self._settings.max_backoff_ms, rng)
        self._blocked = BlockedTopics(backoff)
        self._backoff = backoff
        self._stopping = asyncio.Event()
        self._session: Session | None = None
        self._sent = self._set_aside = 0
        self._told_ms, self._told_sent = 0, 0

    def stop(self) -> None:
        """Ask ``run`` or ``drain`` to end after the round under way."""
        self._stopping.set()

    async def run(self) -> RelayReport:
        """Relay until ``stop``. Waits out a Kafka or a database that is away.

        Raises ``TransportError`` or ``DatabaseError`` only where either is away at the start.
        """
        await self._start()
        failures = 0
        try:
            while not self._stopping.is_set():
                try:
                    busy = await self._round()
                    await self._tell_progress()
                    failures = 0
                except DatabaseError as error:
                    failures += 1
                    busy = False
                    await self._lost_database(error, failures)
                if not busy:
                    await self._pause(self._settings.poll_ms)
            return RelayReport(self._sent, self._set_aside, await self._left())
        finally:
            await self._stop()

    async def drain(self) -> RelayReport:
        """Relay until nothing that can be sent is left, also by other relays, or ``stop``.

        Raises ``TransportError`` where Kafka does not take something, and ``DatabaseError``; run it again then.
        """
        await self._start()
        try:
            while not self._stopping.is_set():
                busy = await self._round()
                if (error := self._blocked.last_error) is not None:
                    raise error
                if not busy:
                    if (await self._counts()).sendable == 0:
                        break
                    await self._pause(self._settings.poll_ms)
            return RelayReport(self._sent, self._set_aside, await self._left())
        finally:
            await self._stop()

    # -- one round

    async def _round(self) -> bool:
        """Whether there was something to send."""
        session = await self._connected()
        settings = self._settings
        shelf = self._shelf(session)
        steps = shelf.take(
            self._owner,
            lease_ms=settings.lease_ms,
            buckets=settings.buckets,
            rows=settings.batch_rows,
            max_bytes=settings.batch_bytes,
            blocked=self._blocked.now(self._clock.now_ms()),
        )
        taken = await session.transaction(steps)
        if not taken.buckets:
            return False
        rows, records, damaged = readable(without_followers_of_large(taken.rows))
        answers = await self._send(session, shelf, taken, records)
        outcome = judged(rows, answers)
        outcome.refused.update(damaged)
        await session.transaction(shelf.finish(self._owner, taken.buckets, outcome.sent, outcome.refused))
        self._account(taken, outcome)
        return bool(outcome.sent or outcome.refused)

    async def _send(
        self, session: Session, shelf: Shelf, taken: Taken, records: Sequence[OutgoingRecord]
    ) -> Sequence[Answer]:
        """Send, and keep the lease meanwhile."""
        if not records:
            return []
        sending = asyncio.create_task(self._producer.send_batch(records))
        try:
            while not (await asyncio.wait({sending}, timeout=self._settings.lease_ms / 3_000))[0]:
                await session.transaction(shelf.renew(self._owner, taken.buckets, lease_ms=self._settings.lease_ms))
            return await sending
        except TransportError as error:  # nothing was tried
            return [error] * len(records)
        finally:
            if not sending.done():
                sending.cancel()
                await asyncio.wait({sending})

    def _account(self, taken: Taken, outcome: Outcome) -> None:
        self._sent += len(outcome.sent)
        self._set_aside += len(outcome.refused)
        self._metrics.sent(len(outcome.sent))
        by_id = {row.id: row for row in taken.rows}
        for row_id, refused in outcome.refused.items():
            row = by_id[row_id]
            self._metrics.set_aside(refused.code)
            self._log.error(
                names.OUTBOX_SET_ASIDE,
                topic=row.topic,
                message_id=row.event_id,
                row=row_id,
                code=refused.code,
                bytes=row.size_bytes,
                remedy="see: broker-bridge outbox status",
            )
        now_ms = self._clock.now_ms()
        for topic, failed in outcome.failed.items():
            delay_ms = self._blocked.block(topic, failed, now_ms)
            self._metrics.failed(failed.code)
            self._log.warning(
                names.OUTBOX_TOPIC_BLOCKED, topic=topic, code=failed.code, error=failed, delay_ms=delay_ms
            )
        delivered = {by_id[row_id].topic for row_id in outcome.sent} - outcome.failed.keys()
        for topic in self._blocked.open(delivered):
            self._log.info(names.OUTBOX_TOPIC_OPEN, topic=topic)

    # -- around it

    async def _start(self) -> None:
        session = await self._connected()
        try:
            await session.transaction(self._shelf(session).check())
            await self._producer.start()
        except BaseException:
            await self._drop_session()
            raise
        self._told_ms = self._clock.now_ms()
        self._log.info(names.OUTBOX_STARTED, worker=self._owner)

    async def _stop(self) -> None:
        await self._producer.stop()
        await self._drop_session()
        self._log.info(names.OUTBOX_STOPPED, worker=self._owner, count=self._sent)

    def _shelf(self, session: Session) -> Shelf:
        return Shelf(session.dialect, table=self._settings.table, hold_keys=self._settings.hold_keys)

    async def _connected(self) -> Session:
        if self._session is None:
            self._session = await self._database.connect()
        return self._session

    async def _drop_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _lost_database(self, error: DatabaseError, failures: int) -> None:
        delay_ms = self._backoff.delay_ms(failures)
        self._metrics.database_failed()
        self._log.warning(names.DATABASE_LOST, error=error, code=error.code, delay_ms=delay_ms)
        await self._drop_session()
        await self._pause(delay_ms)

    async def _pause(self, delay_ms: float) -> None:
        """Until ``stop``, at most this long."""
        try:
            async with asyncio.timeout(delay_ms / 1000):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _counts(self) -> Counts:
        session = await self._connected()
        return await session.transaction(self._shelf(session).counts())

    async def _left(self) -> int:
        try:
            return (await self._counts()).waiting
        except DatabaseError:
            return -1

    async def _tell_progress(self) -> None:
        """A line each ten seconds, with what waits."""
        now_ms = self._clock.now_ms()
        if now_ms - self._told_ms < PROGRESS_MS:
            return
        counts = await self._counts()
        self._metrics.backlog(counts.waiting, counts.oldest_ms)
        self._log.info(
            names.OUTBOX_RELAYED,
            count=self._sent - self._told_sent,
            waiting=counts.waiting,
            set_aside=counts.set_aside,
            oldest_ms=counts.oldest_ms or 0,
            duration_ms=now_ms - self._told_ms,
        )
        self._told_ms, self._told_sent = now_ms, self._sent
