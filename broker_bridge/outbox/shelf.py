"""What the relay asks of the outbox's tables, a procedure for each of its questions.

Rows are kept in 64 buckets by key. A relay leases a few buckets that have work, sends what it read, deletes it and
gives the buckets back; so one relay at a time works on a key, and any number of relays share the buckets without
knowing of each other. Times are the database's.

A relay that was paused beyond its lease may still send and delete after another has taken over. That needs no fence:

    A: reads r1 r2, pauses          B: takes over, sends r1 r2 r3, deletes them
    A: sends r1 r2, deletes them    Kafka: r1 r2 r3 r1 r2; the first of each is in order, the others have known ids

because each relay sends a key's rows from the first one that is not deleted, without a hole, and deletes only what
Kafka has acknowledged, which stays true whoever says it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from broker_bridge.database.statement import Dialect, Row, Statement, Steps, for_table, places
from broker_bridge.errors import BridgeError, DatabaseError
from broker_bridge.outbox.row import BUCKETS, OutboxRow

LONGEST_ERROR: Final = 500

_BEHIND_SET_ASIDE: Final = """ AND NOT EXISTS (
    SELECT 1 FROM {table} a WHERE a.set_aside_ms IS NOT NULL AND a.bucket = o.bucket
    AND a.topic = o.topic AND a.record_key = o.record_key AND a.id < o.id)"""
_TAKE: Final = """WITH free AS MATERIALIZED (
  SELECT b.bucket FROM {table}_bucket b
  WHERE b.lease_until_ms < {now_ms}
    AND EXISTS (SELECT 1 FROM {table} o WHERE o.bucket = b.bucket AND {sendable})
  ORDER BY b.worked_ms, b.bucket LIMIT ? {locked})
UPDATE {table}_bucket SET owner = ?, lease_until_ms = {now_ms} + ?, worked_ms = {now_ms}
WHERE bucket IN (SELECT bucket FROM free)
RETURNING bucket"""
_READ_BUCKET: Final = """SELECT * FROM (
  SELECT o.id, o.topic, o.record_key, o.record_value, o.headers, o.partition_number, o.event_id, o.size_bytes
  FROM {table} o WHERE o.bucket = ? AND {sendable} ORDER BY o.id LIMIT ?) one"""
_READ: Final = """SELECT id, topic, record_key, record_value, headers, partition_number, event_id, size_bytes
FROM (SELECT every.*, sum(size_bytes) OVER (ORDER BY id) AS running FROM ({each}) every) summed
WHERE running - size_bytes < ? ORDER BY id"""
_RENEW: Final = "UPDATE {table}_bucket SET lease_until_ms = {now_ms} + ? WHERE owner = ? AND bucket IN ({places})"
_RELEASE: Final = "UPDATE {table}_bucket SET lease_until_ms = 0, owner = '' WHERE owner = ? AND bucket IN ({places})"
_DELETE: Final = "DELETE FROM {table} WHERE id IN ({places})"
_SET_ASIDE: Final = "UPDATE {table} SET set_aside_ms = {now_ms}, error_code = ?, error = ? WHERE id = ?"
_COUNTS: Final = """SELECT
  (SELECT count(*) FROM {table} o WHERE {sendable}),
  (SELECT count(*) FROM {table} o WHERE o.set_aside_ms IS NULL),
  (SELECT count(*) FROM {table} o WHERE o.set_aside_ms IS NOT NULL),
  (SELECT count(*) FROM {table}_bucket WHERE lease_until_ms >= {now_ms}),
  {now_ms} - (SELECT min(o.created_ms) FROM {table} o WHERE o.set_aside_ms IS NULL)"""
_SET_ASIDE_ROWS: Final = """SELECT id, topic, event_id, size_bytes, created_ms, set_aside_ms, error_code, error
FROM {table} WHERE set_aside_ms IS NOT NULL ORDER BY id LIMIT ?"""
_RETRY: Final = """UPDATE {table} SET set_aside_ms = NULL, error_code = NULL, error = NULL
WHERE set_aside_ms IS NOT NULL AND id IN ({places}) RETURNING id"""
_DISCARD: Final = "DELETE FROM {table} WHERE set_aside_ms IS NOT NULL AND id IN ({places}) RETURNING id"


class Taken(NamedTuple):
    """Buckets leased, and the rows to send, in the order of their ids."""

    buckets: list[int]
    rows: list[OutboxRow]


class Counts(NamedTuple):
    """``sendable`` and ``waiting`` differ by the rows behind one of their key that was set aside."""

    sendable: int
    waiting: int
    set_aside: int
    leased_buckets: int
    oldest_ms: int | None
    """Age of the oldest waiting row, in ms."""


class SetAside(NamedTuple):
    """A row that Kafka will not take."""

    id: int
    topic: str
    event_id: str
    size_bytes: int
    created_ms: int
    set_aside_ms: int
    error_code: str
    error: str


class Shelf:
    """The procedures of one outbox table for one relay. ``hold_keys``: rows behind one set aside wait for it."""

    def __init__(self, dialect: Dialect, *, table: str, hold_keys: bool) -> None:
        self._dialect = dialect
        self._table = table
        self._hold_keys = hold_keys

    def _sql(self, text: str, **parts: str) -> str:
        for name, part in parts.items():
            text = text.replace(f"{{{name}}}", part)
        return for_table(text, self._table, self._dialect)

    def _sendable(self, blocked: Sequence[str] = ()) -> str:
        wanted = "o.set_aside_ms IS NULL"
        if self._hold_keys:
            wanted += _BEHIND_SET_ASIDE
        return wanted + (f" AND o.topic NOT IN ({places(len(blocked))})" if blocked else "")

    def take(
        self,
        owner: str,
        *,
        lease_ms: int,
        buckets: int,
        rows: int,
        max_bytes: int,
        blocked: Sequence[str] = (),
    ) -> Steps[Taken]:
        """Lease buckets that have rows of topics not ``blocked``, and read the first of each, up to ``max_bytes``.

        Buckets served longest ago come first. At least one row is read, however large.
        """
        sendable = self._sendable(blocked)
        locked = "FOR UPDATE OF b SKIP LOCKED" if self._dialect is Dialect.POSTGRES else ""
        taken = yield Statement(
            self._sql(_TAKE, sendable=sendable, locked=locked), (*blocked, buckets, owner, lease_ms)
        )
        leased = sorted(int(row[0]) for row in taken)
        if not leased:
            return Taken([], [])
        each = " UNION ALL ".join([_READ_BUCKET] * len(leased))
        share = max(1, rows // len(leased))
        values = [value for bucket in leased for value in (bucket, *blocked, share)]
        found = yield Statement(self._sql(_READ, each=each, sendable=sendable), (*values, max_bytes))
        return Taken(leased, [OutboxRow(*row) for row in found])

    def check(self) -> Steps[None]:
        """Whether there is something to work with. Raises ``DatabaseError``: without bucket rows nothing would move."""
        [[found]] = yield Statement(self._sql("SELECT count(*) FROM {table}_bucket"))
        if found != BUCKETS:
            raise DatabaseError(
                f"{self._table}_bucket has {found} rows instead of {BUCKETS}",
                remedy="create what is missing: broker-bridge outbox create-table --database …",
            )
        yield Statement(self._sql("SELECT id FROM {table} LIMIT 1"))

    def renew(self, owner: str, buckets: Sequence[int], *, lease_ms: int) -> Steps[None]:
        """Hold them for another ``lease_ms``, those that nobody has taken."""
        yield Statement(self._sql(_RENEW, places=places(len(buckets))), (lease_ms, owner, *buckets))

    def finish(
        self, owner: str, buckets: Sequence[int], sent: Sequence[int], refused: Mapping[int, BridgeError]
    ) -> Steps[None]:
        """Delete what was sent, set aside what was refused, and give the buckets back: in one transaction."""
        if sent:
            yield Statement(self._sql(_DELETE, places=places(len(sent))), sent)
        for row_id, error in refused.items():
            yield Statement(self._sql(_SET_ASIDE), (error.code, str(error)[:LONGEST_ERROR].replace("\0", ""), row_id))
        yield Statement(self._sql(_RELEASE, places=places(len(buckets))), (owner, *buckets))

    def counts(self) -> Steps[Counts]:
        """How many rows are where."""
        sendable = self._sendable()
        [row] = yield Statement(self._sql(_COUNTS, sendable=sendable))
        return Counts(*row)

    def set_aside(self, limit: int) -> Steps[list[SetAside]]:
        """Rows that Kafka will not take, oldest first."""
        return [SetAside(*row) for row in (yield Statement(self._sql(_SET_ASIDE_ROWS), (limit,)))]

    def retry(self, ids: Sequence[int]) -> Steps[list[int]]:
        """Send these again that were set aside; which of them were."""
        return _ids((yield Statement(self._sql(_RETRY, places=places(len(ids))), ids)))

    def discard(self, ids: Sequence[int]) -> Steps[list[int]]:
        """Delete these that were set aside; which of them were."""
        return _ids((yield Statement(self._sql(_DISCARD, places=places(len(ids))), ids)))


def _ids(rows: list[Row]) -> list[int]:
    found: list[Any] = [row[0] for row in rows]
    return sorted(found)
