"""The drivers people use, told apart by the type of the connection: none of them is imported here.

| connection | placeholders | waits |
|---|---|---|
| ``psycopg.AsyncConnection`` (pool connections too) | ``%s`` | async |
| ``psycopg.Connection`` | ``%s`` | blocks |
| ``asyncpg.Connection`` (pool connections too) | ``$1`` | async |
| ``aiosqlite.Connection`` | ``?`` | async |
| ``sqlite3.Connection`` | ``?`` | blocks |
"""

from __future__ import annotations

import importlib
from typing import Any, Final, Protocol, TypeVar

from broker_bridge.database.statement import Dialect, Row, Statement, Steps, with_numbers, with_percent
from broker_bridge.errors import UsageError

T = TypeVar("T")


class Driver(Protocol):
    """What all drivers say of a connection."""

    @property
    def dialect(self) -> Dialect:
        """The SQL it speaks."""

    def in_transaction(self, connection: Any, /) -> bool:
        """Whether a statement now belongs to a transaction that somebody will commit or roll back later."""


class AsyncDriver(Driver, Protocol):
    """A driver whose calls are awaited."""

    async def execute(self, connection: Any, statement: Statement, /) -> list[Row]:
        """Run the statement; its rows, none where it has none."""


class BlockingDriver(Driver, Protocol):
    """A driver whose calls block the thread."""

    def execute_now(self, connection: Any, statement: Statement, /) -> list[Row]:
        """Run the statement; its rows, none where it has none."""


class Psycopg:
    """``psycopg.Connection``: rows are tuples whatever row factory the connection has."""

    dialect: Final = Dialect.POSTGRES

    def in_transaction(self, connection: Any, /) -> bool:
        """Without autocommit the next statement begins one."""
        return not connection.autocommit or connection.info.transaction_status != 0

    def execute_now(self, connection: Any, statement: Statement, /) -> list[Row]:
        """See ``BlockingDriver``."""
        with connection.cursor(row_factory=_tuple_row()) as cursor:
            cursor.execute(with_percent(statement.sql), statement.values)
            return cursor.fetchall() if cursor.description is not None else []


class PsycopgAsync(Psycopg):
    """``psycopg.AsyncConnection``."""

    async def execute(self, connection: Any, statement: Statement, /) -> list[Row]:
        """See ``AsyncDriver``."""
        async with connection.cursor(row_factory=_tuple_row()) as cursor:
            await cursor.execute(with_percent(statement.sql), statement.values)
            return await cursor.fetchall() if cursor.description is not None else []


class Asyncpg:
    """``asyncpg.Connection``: commits each statement unless a transaction was begun."""

    dialect: Final = Dialect.POSTGRES

    def in_transaction(self, connection: Any, /) -> bool:
        """See ``Driver``."""
        return bool(connection.is_in_transaction())

    async def execute(self, connection: Any, statement: Statement, /) -> list[Row]:
        """See ``AsyncDriver``."""
        return [tuple(row) for row in await connection.fetch(with_numbers(statement.sql), *statement.values)]


class Sqlite:
    """``sqlite3.Connection``."""

    dialect: Final = Dialect.SQLITE

    def in_transaction(self, connection: Any, /) -> bool:
        """With ``isolation_level`` set, or ``autocommit=False``, the next insert begins one."""
        if getattr(connection, "autocommit", -1) is True:
            return False
        return bool(connection.in_transaction or connection.isolation_level is not None)

    def execute_now(self, connection: Any, statement: Statement, /) -> list[Row]:
        """See ``BlockingDriver``."""
        cursor = connection.cursor()
        try:
            cursor.row_factory = None
            return list(cursor.execute(statement.sql, statement.values).fetchall())
        finally:
            cursor.close()


class Aiosqlite(Sqlite):
    """``aiosqlite.Connection``."""

    async def execute(self, connection: Any, statement: Statement, /) -> list[Row]:
        """See ``AsyncDriver``."""
        async with connection.execute(statement.sql, statement.values) as cursor:
            cursor.row_factory = None
            return list(await cursor.fetchall())


_DRIVERS: Final[dict[tuple[str, str], AsyncDriver | BlockingDriver]] = {
    ("psycopg", "AsyncConnection"): PsycopgAsync(),
    ("psycopg", "Connection"): Psycopg(),
    ("asyncpg", "Connection"): Asyncpg(),
    ("asyncpg", "PoolConnectionProxy"): Asyncpg(),
    ("aiosqlite", "Connection"): Aiosqlite(),
    ("sqlite3", "Connection"): Sqlite(),
}


def _tuple_row() -> Any:
    return importlib.import_module("psycopg.rows").tuple_row


def driver_of(connection: Any) -> AsyncDriver | BlockingDriver:
    """How to talk to this connection. Raises ``UsageError`` where it is of no driver that is known."""
    for kind in type(connection).__mro__:
        found = _DRIVERS.get((kind.__module__.partition(".")[0], kind.__name__))
        if found is not None:
            return found
    kind = type(connection)
    raise UsageError(
        f"{kind.__module__}.{kind.__qualname__} is not a database connection that is known here",
        remedy="give the connection itself, of psycopg 3, asyncpg, aiosqlite or sqlite3; with SQLAlchemy that is "
        "(await session.connection()).get_raw_connection() and its driver_connection",
    )


def in_transaction(connection: Any) -> AsyncDriver | BlockingDriver:
    """The driver of a connection that is inside a transaction.

    Raises ``UsageError`` where it is not: the row would be committed alone, and what belongs to it perhaps never.
    """
    driver = driver_of(connection)
    if not driver.in_transaction(connection):
        raise UsageError(
            "the connection is not in a transaction, so this row and your own would not commit together",
            remedy="begin one around both: async with connection.transaction(): …",
        )
    return driver


async def run(connection: Any, driver: AsyncDriver | BlockingDriver, steps: Steps[T]) -> T:
    """Run a procedure. On a blocking connection it blocks the event loop for as long as the database takes."""
    rows: list[Row] | None = None
    with_await = getattr(driver, "execute", None)
    try:
        while True:
            statement = steps.send(rows) if rows is not None else next(steps)
            if with_await is not None:
                rows = await with_await(connection, statement)
            else:
                rows = driver.execute_now(connection, statement)  # type: ignore[union-attr]
    except StopIteration as end:
        answer: T = end.value
        return answer
    finally:
        steps.close()


def run_blocking(connection: Any, driver: AsyncDriver | BlockingDriver, steps: Steps[T]) -> T:
    """Run a procedure on a connection that blocks. Raises ``UsageError`` on one that must be awaited."""
    if hasattr(driver, "execute"):
        raise UsageError("this connection must be awaited", remedy="use the async methods with it")
    rows: list[Row] | None = None
    try:
        while True:
            statement = steps.send(rows) if rows is not None else next(steps)
            rows = driver.execute_now(connection, statement)
    except StopIteration as end:
        answer: T = end.value
        return answer
    finally:
        steps.close()
