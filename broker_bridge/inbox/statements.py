"""What the inbox asks of the database: its tables, and a procedure for each of its questions.

Everything rests on the primary key. ``INSERT … ON CONFLICT DO NOTHING`` of a key that another open transaction has
inserted waits for that transaction to end:

    T1                              T2
    INSERT (k)      → 1 row
                                    INSERT (k)      waits
    effect, COMMIT
                                    → 0 rows: not the first time
or
    ROLLBACK (crash, error)
                                    → 1 row: the first time after all

A ``SELECT`` first and an ``INSERT`` after would let both through. Under REPEATABLE READ and SERIALIZABLE the second
transaction fails instead (SQLSTATE 40001), and the attempt after it sees the row.
"""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import BaseModel

from broker_bridge.core.identity import claim_key
from broker_bridge.database.statement import Dialect, Statement, Steps, for_table
from broker_bridge.errors import FencedError, UsageError
from broker_bridge.message import Message

LONGEST_SHOWN_KEY: Final = 500
"""Characters of an idempotency key that are kept for people to read; the key's hash decides."""

_TABLES: Final = {
    Dialect.POSTGRES: (
        """CREATE TABLE IF NOT EXISTS {table} (
  consumer text NOT NULL,
  message_hash bytea NOT NULL,
  idempotency_key text NOT NULL,
  origin text NOT NULL,
  token bigint NOT NULL,
  applied_ms bigint NOT NULL,
  result text,
  PRIMARY KEY (consumer, message_hash)
)""",
        "CREATE INDEX IF NOT EXISTS {name}_applied ON {table} (consumer, applied_ms)",
        """CREATE TABLE IF NOT EXISTS {table}_fence (
  consumer text NOT NULL,
  record_key bytea NOT NULL,
  token bigint NOT NULL,
  PRIMARY KEY (consumer, record_key)
)""",
    ),
    Dialect.SQLITE: (
        """CREATE TABLE IF NOT EXISTS {table} (
  consumer TEXT NOT NULL,
  message_hash BLOB NOT NULL,
  idempotency_key TEXT NOT NULL,
  origin TEXT NOT NULL,
  token INTEGER NOT NULL,
  applied_ms INTEGER NOT NULL,
  result TEXT,
  PRIMARY KEY (consumer, message_hash)
) WITHOUT ROWID""",
        "CREATE INDEX IF NOT EXISTS {name}_applied ON {table} (consumer, applied_ms)",
        """CREATE TABLE IF NOT EXISTS {table}_fence (
  consumer TEXT NOT NULL,
  record_key BLOB NOT NULL,
  token INTEGER NOT NULL,
  PRIMARY KEY (consumer, record_key)
) WITHOUT ROWID""",
    ),
}

_ENTER: Final = """INSERT INTO {table} (consumer, message_hash, idempotency_key, origin, token, applied_ms)
VALUES (?, ?, ?, ?, ?, {now_ms})
ON CONFLICT (consumer, message_hash) DO NOTHING
RETURNING 1"""
_REMEMBER: Final = "UPDATE {table} SET result = ? WHERE consumer = ? AND message_hash = ? RETURNING 1"
_RECALL: Final = "SELECT result FROM {table} WHERE consumer = ? AND message_hash = ?"
_FENCE: Final = """INSERT INTO {table}_fence (consumer, record_key, token) VALUES (?, ?, ?)
ON CONFLICT (consumer, record_key) DO UPDATE SET token = excluded.token
WHERE {name}_fence.token <= excluded.token
RETURNING token"""
_PURGE: Final = """DELETE FROM {table} WHERE (consumer, message_hash) IN (
  SELECT consumer, message_hash FROM {table} WHERE consumer = ? AND applied_ms < {now_ms} - ?
  ORDER BY applied_ms LIMIT ?)
RETURNING 1"""


class InboxStatements:
    """The procedures of one consumer's inbox in one table, for one dialect."""

    def __init__(self, dialect: Dialect, *, consumer: str, table: str) -> None:
        self._dialect = dialect
        self._consumer = consumer
        self._table = table

    def sql(self, text: str) -> str:
        """``text`` for this table."""
        return for_table(text, self._table, self._dialect)

    def tables(self) -> list[str]:
        """The statements that create the tables where they are missing."""
        return [self.sql(text) for text in _TABLES[self._dialect]]

    def create(self) -> Steps[None]:
        """Create them; any number of processes may do so at once."""
        if self._dialect is Dialect.POSTGRES:
            # CREATE … IF NOT EXISTS alone fails where two processes do it at the same moment.
            lock = f"PERFORM pg_advisory_xact_lock(hashtext('{self._table}'));"
            yield Statement(f"DO $create$ BEGIN {lock} {'; '.join(self.tables())}; END $create$")
            return
        for statement in self.tables():
            yield Statement(statement)

    def enter(self, message: Message[Any], token: int) -> Steps[bool]:
        """Insert the message's row; whether it was not there."""
        shown = message.idempotency_key[:LONGEST_SHOWN_KEY].replace("\0", "\ufffd")
        values = (self._consumer, message_hash(message), shown, str(message.origin), token)
        return bool((yield Statement(self.sql(_ENTER), values)))

    def remember(self, message: Message[Any], answer: Any) -> Steps[None]:
        """Write the answer beside the row. Raises ``UsageError`` where there is no row, or the answer is no JSON."""
        values = (as_json(answer), self._consumer, message_hash(message))
        if not (yield Statement(self.sql(_REMEMBER), values)):
            raise UsageError(
                "the message is not in the inbox, so its answer cannot be kept",
                remedy="call first_time before remember",
            )

    def recall(self, message: Message[Any]) -> Steps[Any]:
        """The answer beside the row, None where there is none."""
        rows = yield Statement(self.sql(_RECALL), (self._consumer, message_hash(message)))
        return None if not rows or rows[0][0] is None else json.loads(rows[0][0])

    def fence(self, key: bytes | str, token: int) -> Steps[None]:
        """Raise the key's token to this one. Raises ``FencedError`` where it is larger already."""
        record_key = key.encode() if isinstance(key, str) else bytes(key)
        if not (yield Statement(self.sql(_FENCE), (self._consumer, record_key, token))):
            raise FencedError(
                "a holder with a larger token has written under this key",
                where=self._consumer,
                remedy="nothing to do where the message has passed to another worker; otherwise it is tried again with "
                "a new token",
            )

    def purge(self, older_than_ms: int, limit: int) -> Steps[int]:
        """Delete rows, oldest first; how many."""
        return len((yield Statement(self.sql(_PURGE), (self._consumer, older_than_ms, limit))))


def message_hash(message: Message[Any]) -> bytes:
    """What makes two messages the same one: source topic and idempotency key, as for claims."""
    return claim_key(message.idempotency_key, namespace=message.origin.topic)


def as_json(answer: Any) -> str:
    """The answer as JSON that reads back as the same value. Raises ``UsageError``."""
    plain = answer.model_dump(mode="json") if isinstance(answer, BaseModel) else answer
    try:
        text = json.dumps(plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"an answer to be kept must be JSON: {error}") from error
    if json.loads(text) != plain:
        raise UsageError("an answer to be kept must read back as it was: no tuples, and texts as the keys of dicts")
    return text
