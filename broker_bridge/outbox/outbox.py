"""The service's side of the outbox: events become rows of the transaction that they tell of.

**Order.** Rows of one key are relayed in the order of their ids, so ids must follow the order of commits. On PostgreSQL
they do not by themselves:

    T1: add (k) → id 1
                            T2: add (k) → id 2
                            T2: commit
    T1: commit                                  ids say 1, 2; commits say 2, 1

So ``add`` first takes an advisory lock of the topic and key that lasts until the transaction ends:

    T1: lock (k), add → id 1
                            T2: lock (k)          waits
    T1: commit
                            T2: add (k) → id 2, commit

Whoever sees the second row then sees the first one, because the first had committed before the second got its id: there
is no gap to wait for. SQLite has one writer at a time and needs no lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import uuid4

from broker_bridge.clock import Clock, SystemClock
from broker_bridge.cloudevents import active_traceparent
from broker_bridge.contracts.framing import WireForm
from broker_bridge.contracts.source import when_fetched
from broker_bridge.database.drivers import driver_of, in_transaction, run, run_blocking
from broker_bridge.database.statement import Dialect, Statement, Steps, places, table_name
from broker_bridge.errors import RecordTooLargeError
from broker_bridge.message import OutgoingRecord
from broker_bridge.outbox.row import bucket_of, event_id_of, lock_of, size_bytes, write_headers
from broker_bridge.outbox.tables import DEFAULT_TABLE, create, tables
from broker_bridge.producer import Encoder, Event, record_of

MAX_RECORD_BYTES: Final = 1_000_000
ROWS_A_STATEMENT: Final = 500
LOCKS_A_STATEMENT: Final = 1_000
_COLUMNS: Final = "(bucket, topic, record_key, record_value, headers, partition_number, event_id, size_bytes)"
_COLUMN_COUNT: Final = 8


class _Writer:
    """What both kinds of outbox know."""

    def __init__(
        self,
        codec: Encoder,
        *,
        source: str,
        table: str = DEFAULT_TABLE,
        key_lock: bool = True,
        max_record_bytes: int = MAX_RECORD_BYTES,
        clock: Clock | None = None,
        new_id: Callable[[], str] = lambda: str(uuid4()),
        wire_form: WireForm | str = WireForm.CONFLUENT,
    ) -> None:
        self.table = table_name(table)
        self._codec = codec
        self._source = source
        self._key_lock = key_lock
        self._max_record_bytes = max_record_bytes
        self._clock = clock or SystemClock()
        self._new_id = new_id
        self._wire_form = WireForm.named(wire_form)

    def create_table_sql(self, dialect: Dialect | str) -> str:
        """The SQL that creates the tables (``"postgresql"`` or ``"sqlite"``), for a migration."""
        return ";\n".join(tables(Dialect(dialect), self.table)) + ";\n"

    def _records(self, events: Sequence[Event]) -> list[OutgoingRecord]:
        trace = active_traceparent()
        now_ms = self._clock.now_ms()
        found = [
            record_of(
                event,
                trace,
                codec=self._codec,
                source=self._source,
                now_ms=now_ms,
                new_id=self._new_id,
                wire_form=self._wire_form,
            )
            for event in events
        ]
        for record in found:
            size = size_bytes(record)
            if size > self._max_record_bytes:
                raise RecordTooLargeError(
                    f"the event has {size} bytes, the outbox takes {self._max_record_bytes}",
                    where=record.topic,
                    remedy="send a reference to the content, or raise max_record_bytes here and the topic's limit",
                )
        return found

    def _write(self, dialect: Dialect, records: Sequence[OutgoingRecord]) -> Steps[list[str]]:
        if dialect is Dialect.POSTGRES and self._key_lock:
            yield from self._lock(records)
        for first in range(0, len(records), ROWS_A_STATEMENT):
            part = records[first : first + ROWS_A_STATEMENT]
            row = f"({places(_COLUMN_COUNT)})"
            sql = f"INSERT INTO {self.table} {_COLUMNS} VALUES {', '.join([row] * len(part))}"  # noqa: S608 - a checked name
            yield Statement(sql, [value for record in part for value in _row(record)])
        return [event_id_of(record) for record in records]

    def _lock(self, records: Sequence[OutgoingRecord]) -> Steps[None]:
        """All keys in one order, so that two batches with the same keys do not lock each other out."""
        locks = sorted({lock_of(self.table, record.topic, record.key) for record in records if record.key is not None})
        for first in range(0, len(locks), LOCKS_A_STATEMENT):
            part = locks[first : first + LOCKS_A_STATEMENT]
            calls = ", ".join(["pg_advisory_xact_lock(CAST(? AS bigint))"] * len(part))
            yield Statement(f"SELECT {calls}", part)


class Outbox(_Writer):
    """Writes events of one ``source`` into a table of the service's own database.

    ``add`` and ``add_batch`` must be called inside the transaction that the events tell of; they raise ``UsageError``
    outside one, and a ``ContractError`` or ``RecordTooLargeError`` where an event is not valid: the service learns it,
    in its transaction, not the relay. What the driver raises comes out as it is.

    On PostgreSQL a transaction that adds under a key holds that key until it ends, and others that add under it wait.
    ``key_lock=False`` leaves that out: for services that hold a lock of their own on the key *before* they add, or
    events without order.
    """

    @property
    def blocking(self) -> BlockingOutbox:
        """The same outbox for blocking connections."""
        return BlockingOutbox(
            self._codec,
            source=self._source,
            table=self.table,
            key_lock=self._key_lock,
            max_record_bytes=self._max_record_bytes,
            clock=self._clock,
            new_id=self._new_id,
            wire_form=self._wire_form,
        )

    async def add(self, connection: Any, topic: str, value: Any, *, contract: str, **options: Any) -> str:
        """Write one event and return its id. ``options`` are those of ``Event``: ``key``, ``event_id`` and so on."""
        [event_id] = await self.add_batch(connection, [Event(topic=topic, value=value, contract=contract, **options)])
        return event_id

    async def add_batch(self, connection: Any, events: Sequence[Event]) -> list[str]:
        """Write these events, all or none, and return their ids."""
        driver = in_transaction(connection)
        records = await when_fetched(lambda: self._records(events))
        return await run(connection, driver, self._write(driver.dialect, records))

    async def create(self, connection: Any) -> None:
        """Create the tables where they are missing. Commit it, unless the connection does so by itself."""
        driver = driver_of(connection)
        await run(connection, driver, create(driver.dialect, self.table))


class BlockingOutbox(_Writer):
    """``Outbox`` for ``psycopg.Connection`` and ``sqlite3.Connection``; each method is that of ``Outbox``."""

    def add(self, connection: Any, topic: str, value: Any, *, contract: str, **options: Any) -> str:
        """See ``Outbox.add``."""
        [event_id] = self.add_batch(connection, [Event(topic=topic, value=value, contract=contract, **options)])
        return event_id

    def add_batch(self, connection: Any, events: Sequence[Event]) -> list[str]:
        """See ``Outbox.add_batch``."""
        driver = in_transaction(connection)
        return run_blocking(connection, driver, self._write(driver.dialect, self._records(events)))

    def create(self, connection: Any) -> None:
        """See ``Outbox.create``."""
        driver = driver_of(connection)
        run_blocking(connection, driver, create(driver.dialect, self.table))


def _row(record: OutgoingRecord) -> tuple[Any, ...]:
    event_id = event_id_of(record)
    return (
        bucket_of(record.key, event_id),
        record.topic,
        record.key,
        record.value,
        write_headers(record.headers),
        record.partition,
        event_id,
        size_bytes(record),
    )
