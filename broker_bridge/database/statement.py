"""SQL as values: what to run and what to do with the rows, apart from how a driver runs it.

A procedure of several statements is a generator: it yields a ``Statement``, is sent that one's rows, and returns its
answer. The same procedure then runs on an async connection, on a blocking one, and in a test on none.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Generator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from broker_bridge.errors import UsageError

T = TypeVar("T")


class Dialect(enum.Enum):
    """The databases whose SQL is spoken here."""

    POSTGRES = "postgresql"
    SQLITE = "sqlite"


class Statement(NamedTuple):
    """One statement with ``?`` for each value. A literal ``?`` cannot be written."""

    sql: str
    values: Sequence[Any] = ()


Row: TypeAlias = tuple[Any, ...]
Steps: TypeAlias = Generator[Statement, list[Row], T]

NOW_MS: Final = {
    Dialect.POSTGRES: "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)",
    Dialect.SQLITE: "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)",
}
"""The database's own clock, in ms since the epoch: one clock for all processes that share the table."""

_TABLE_NAME: Final = re.compile(r"(?:[a-z_][a-z0-9_]{0,40}\.)?[a-z_][a-z0-9_]{0,40}")


def table_name(name: str) -> str:
    """``name`` where it is a plain lower-case name, with its schema before a dot or without.

    Raises ``UsageError``: the name goes into the SQL as it is.
    """
    if _TABLE_NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name!r} is no table name of lower-case letters, digits and underscores",
            remedy="for example bridge_inbox",
        )
    return name


def for_table(sql: str, table: str, dialect: Dialect) -> str:
    """``sql`` with its ``{table}``, ``{name}`` (without the schema) and ``{now_ms}`` filled in."""
    filled = sql.replace("{table}", table).replace("{name}", table.rpartition(".")[2])
    return filled.replace("{now_ms}", NOW_MS[dialect])


def places(count: int) -> str:
    """``?, ?, ?`` for a list of values; never empty."""
    return ", ".join("?" * count)


@lru_cache(maxsize=256)
def with_percent(sql: str) -> str:
    """Placeholders as psycopg wants them."""
    return sql.replace("%", "%%").replace("?", "%s")


@lru_cache(maxsize=256)
def with_numbers(sql: str) -> str:
    """Placeholders as asyncpg wants them."""
    parts = sql.split("?")
    numbered = [f"{part}${number}" for number, part in enumerate(parts[:-1], 1)]
    return "".join([*numbered, parts[-1]])
