"""The outbox's tables. Services in any language may write rows: the columns are part of the wire contract."""

from __future__ import annotations

from typing import Final

from broker_bridge.database.statement import Dialect, Statement, Steps, for_table
from broker_bridge.outbox.row import BUCKETS

DEFAULT_TABLE: Final = "bridge_outbox"

_TABLES: Final = {
    Dialect.POSTGRES: (
        """CREATE TABLE IF NOT EXISTS {table} (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  bucket smallint NOT NULL CHECK (bucket BETWEEN 0 AND 63),
  topic text NOT NULL,
  record_key bytea,
  record_value bytea,
  headers text NOT NULL,
  partition_number integer,
  event_id text NOT NULL,
  size_bytes integer NOT NULL,
  created_ms bigint NOT NULL DEFAULT {now_ms},
  set_aside_ms bigint,
  error_code text,
  error text
)""",
        "CREATE INDEX IF NOT EXISTS {name}_waiting ON {table} (bucket, id) WHERE set_aside_ms IS NULL",
        "CREATE INDEX IF NOT EXISTS {name}_set_aside ON {table} (bucket, id) WHERE set_aside_ms IS NOT NULL",
        """CREATE TABLE IF NOT EXISTS {table}_bucket (
  bucket smallint PRIMARY KEY,
  owner text NOT NULL DEFAULT '',
  lease_until_ms bigint NOT NULL DEFAULT 0,
  worked_ms bigint NOT NULL DEFAULT 0
)""",
    ),
    Dialect.SQLITE: (
        """CREATE TABLE IF NOT EXISTS {table} (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  bucket INTEGER NOT NULL CHECK (bucket BETWEEN 0 AND 63),
  topic TEXT NOT NULL,
  record_key BLOB,
  record_value BLOB,
  headers TEXT NOT NULL,
  partition_number INTEGER,
  event_id TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  created_ms INTEGER NOT NULL DEFAULT ({now_ms}),
  set_aside_ms INTEGER,
  error_code TEXT,
  error TEXT
)""",
        "CREATE INDEX IF NOT EXISTS {name}_waiting ON {table} (bucket, id) WHERE set_aside_ms IS NULL",
        "CREATE INDEX IF NOT EXISTS {name}_set_aside ON {table} (bucket, id) WHERE set_aside_ms IS NOT NULL",
        """CREATE TABLE IF NOT EXISTS {table}_bucket (
  bucket INTEGER PRIMARY KEY,
  owner TEXT NOT NULL DEFAULT '',
  lease_until_ms INTEGER NOT NULL DEFAULT 0,
  worked_ms INTEGER NOT NULL DEFAULT 0
)""",
    ),
}

_BUCKET_ROWS: Final = ", ".join(f"({bucket})" for bucket in range(BUCKETS))
_FILL: Final = "INSERT INTO {table}_bucket (bucket) VALUES {rows} ON CONFLICT (bucket) DO NOTHING"


def tables(dialect: Dialect, table: str) -> list[str]:
    """The statements that create the tables where they are missing, the bucket rows among them."""
    return [for_table(sql, table, dialect) for sql in (*_TABLES[dialect], _FILL.replace("{rows}", _BUCKET_ROWS))]


def create(dialect: Dialect, table: str) -> Steps[None]:
    """Create them; any number of processes may do so at once."""
    if dialect is Dialect.POSTGRES:
        # CREATE … IF NOT EXISTS alone fails where two processes do it at the same moment.
        lock = f"PERFORM pg_advisory_xact_lock(hashtext('{table}'));"
        yield Statement(f"DO $create$ BEGIN {lock} {'; '.join(tables(dialect, table))}; END $create$")
        return
    for statement in tables(dialect, table):
        yield Statement(statement)
