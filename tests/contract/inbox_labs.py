"""One lab for each driver: connections to an empty database with the inbox's tables and a table of effects.

Calls of blocking drivers run in a thread, so that one transaction may wait for another.
"""

from __future__ import annotations

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiosqlite
import asyncpg
import psycopg
from psycopg.rows import dict_row

from broker_bridge.inbox import BlockingInbox, Inbox

EFFECTS = "CREATE TABLE effects (id integer, worker integer)"


class InboxLab(ABC):
    """What the checks need. ``inbox`` may be replaced by a broken one."""

    blocking = False
    postgres = True
    serialization_error: type[Exception] = Exception

    def __init__(self, target: str) -> None:
        self.target = target
        self.inbox: Any = self.make_inbox("billing")
        self._stack = AsyncExitStack()

    def make_inbox(self, consumer: str) -> Any:
        made = Inbox(consumer=consumer)
        return made.blocking if self.blocking else made

    @abstractmethod
    async def connect(self) -> Any:
        """A connection that commits each statement unless told to begin; closed with the lab."""

    @abstractmethod
    async def execute(self, connection: Any, sql: str) -> None: ...

    @abstractmethod
    async def rows(self, connection: Any, sql: str) -> list[tuple[Any, ...]]: ...

    async def begin(self, connection: Any, isolation: str = "READ COMMITTED") -> None:
        await self.execute(connection, f"BEGIN ISOLATION LEVEL {isolation}" if self.postgres else "BEGIN IMMEDIATE")

    async def call(self, method: str, *args: Any, **options: Any) -> Any:
        """A method of the inbox, awaited or in a thread."""
        bound = getattr(self.inbox, method)
        if isinstance(self.inbox, BlockingInbox) or self.blocking:
            return await asyncio.to_thread(bound, *args, **options)
        return await bound(*args, **options)

    async def __aenter__(self) -> InboxLab:
        connection = await self.connect()
        await self.call("create", connection)
        await self.execute(connection, EFFECTS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


class PsycopgLab(InboxLab):
    serialization_error = psycopg.errors.SerializationFailure

    async def connect(self) -> Any:
        made = await psycopg.AsyncConnection.connect(self.target, autocommit=True, row_factory=dict_row)
        self._stack.push_async_callback(made.close)
        return made

    async def execute(self, connection: Any, sql: str) -> None:
        await connection.execute(sql)

    async def rows(self, connection: Any, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in await (await connection.execute(sql)).fetchall()]


class BlockingPsycopgLab(InboxLab):
    blocking = True
    serialization_error = psycopg.errors.SerializationFailure

    async def connect(self) -> Any:
        made = await asyncio.to_thread(psycopg.connect, self.target, autocommit=True, row_factory=dict_row)
        self._stack.callback(made.close)
        return made

    async def execute(self, connection: Any, sql: str) -> None:
        await asyncio.to_thread(connection.execute, sql)

    async def rows(self, connection: Any, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in connection.execute(sql).fetchall()]


class AsyncpgLab(InboxLab):
    serialization_error = asyncpg.SerializationError

    async def connect(self) -> Any:
        made = await asyncpg.connect(self.target)
        self._stack.push_async_callback(made.close)
        return made

    async def execute(self, connection: Any, sql: str) -> None:
        await connection.execute(sql)

    async def rows(self, connection: Any, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await connection.fetch(sql)]


class AsyncpgPoolLab(AsyncpgLab):
    """Connections as a pool hands them out."""

    async def connect(self) -> Any:
        pool = await asyncpg.create_pool(self.target, min_size=1, max_size=1)
        self._stack.push_async_callback(pool.close)
        made = await pool.acquire()
        self._stack.push_async_callback(pool.release, made)
        return made


class AiosqliteLab(InboxLab):
    postgres = False

    async def connect(self) -> Any:
        made = await aiosqlite.connect(self.target, isolation_level=None, timeout=0)
        made.row_factory = aiosqlite.Row
        self._stack.push_async_callback(made.close)
        return made

    async def execute(self, connection: Any, sql: str) -> None:
        await connection.execute(sql)

    async def rows(self, connection: Any, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await connection.execute_fetchall(sql)]


class Sqlite3Lab(InboxLab):
    postgres = False
    blocking = True

    async def connect(self) -> Any:
        made = sqlite3.connect(self.target, isolation_level=None, timeout=0, check_same_thread=False)
        made.row_factory = lambda cursor, row: {"row": row}
        self._stack.callback(made.close)
        return made

    async def execute(self, connection: Any, sql: str) -> None:
        connection.execute(sql)

    async def rows(self, connection: Any, sql: str) -> list[tuple[Any, ...]]:
        return [row["row"] for row in connection.execute(sql).fetchall()]


ON_POSTGRES: dict[str, type[InboxLab]] = {
    "psycopg": PsycopgLab,
    "psycopg-blocking": BlockingPsycopgLab,
    "asyncpg": AsyncpgLab,
    "asyncpg-pool": AsyncpgPoolLab,
}
ON_SQLITE: dict[str, type[InboxLab]] = {"aiosqlite": AiosqliteLab, "sqlite3": Sqlite3Lab}


def sqlite_file(folder: Path) -> str:
    return str(folder / "service.db")
