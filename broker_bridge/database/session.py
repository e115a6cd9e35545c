"""Connections of the bridge's own, for the relay: opened by URL, one transaction at a time, errors without secrets."""

from __future__ import annotations

import asyncio
import importlib
import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from broker_bridge.database.drivers import PsycopgAsync, Sqlite, run, run_blocking
from broker_bridge.database.statement import Dialect, Statement, Steps
from broker_bridge.errors import ConfigError, DatabaseError

T = TypeVar("T")

CONNECT_TIMEOUT_S: Final = 10
TRANSACTION_TIMEOUT_S: Final = 30.0
BUSY_TIMEOUT_S: Final = 5.0
SCHEMES: Final = "postgresql://USER@HOST/NAME or sqlite:///PATH"


class Session(Protocol):
    """One connection, used by one task."""

    @property
    def dialect(self) -> Dialect:
        """The SQL it speaks."""

    async def transaction(self, steps: Steps[T]) -> T:
        """Run a procedure in a transaction and commit it. Raises ``DatabaseError``: it may or may not have committed,
        and the session must not be used again."""

    async def close(self) -> None:
        """Idempotent."""


class Database(Protocol):
    """Where sessions come from. Printing it shows no secret."""

    async def connect(self) -> Session:
        """A new session. Raises ``DatabaseError``."""


def open_database(url: str, *, create: bool = False) -> Database:
    """The database of a URL: ``postgresql://…`` (needs psycopg 3) or ``sqlite:///path``; connects later.

    ``create`` allows SQLite to make the file. Raises ``ConfigError``, which never quotes the URL.
    """
    try:
        parts = urlsplit(url)
        scheme = parts.scheme
        _ = parts.port
    except ValueError as error:
        raise ConfigError("the database URL cannot be read", remedy=f"write {SCHEMES}") from error
    if scheme in ("postgresql", "postgres"):
        return PostgresDatabase(url)
    if scheme == "sqlite" and not parts.netloc and len(parts.path) > 1:
        return SqliteDatabase(Path(unquote(parts.path[1:])), create=create)
    raise ConfigError("the database URL is of no kind that is known", remedy=f"write {SCHEMES}")


class PostgresDatabase:
    """PostgreSQL through psycopg 3. Sessions keep no state: a PgBouncer that pools transactions may be between."""

    def __init__(self, url: str) -> None:
        self._url = url
        parts = urlsplit(url)
        host = parts.hostname or "local socket"
        self.where = f"postgresql://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"
        secrets = {parts.password or "", *(text for name, text in parse_qsl(parts.query) if "password" in name.lower())}
        self._secrets = {text for secret in secrets for text in (secret, unquote(secret)) if text}
        self._psycopg = _psycopg()

    def __repr__(self) -> str:
        return f"PostgresDatabase({self.where})"

    async def connect(self) -> Session:
        """See ``Database.connect``."""
        try:
            connection = await self._psycopg.AsyncConnection.connect(
                self._url,
                autocommit=True,
                prepare_threshold=None,
                connect_timeout=CONNECT_TIMEOUT_S,
                keepalives_idle=15,
                tcp_user_timeout=int(TRANSACTION_TIMEOUT_S * 1000),
                application_name="broker-bridge",
            )
        except self._psycopg.ProgrammingError:  # its text quotes what it could not parse, passwords too
            raise ConfigError("PostgreSQL does not understand the URL", where=self.where) from None
        except (self._psycopg.Error, OSError) as error:
            raise self.failure("cannot connect", error) from None
        return PostgresSession(self, connection, self._psycopg.Error)

    def failure(self, what: str, error: BaseException) -> DatabaseError:
        """The bridge's error for the driver's, its first line, without what is secret."""
        said = " ".join(str(error).split())[:500] or type(error).__name__
        for secret in self._secrets:
            said = said.replace(secret, "***")
        said = re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", said)
        state = getattr(error, "sqlstate", None)
        remedy = "create the tables: broker-bridge outbox create-table --database …" if state == "42P01" else ""
        return DatabaseError(f"{what}: {said}", where=self.where, remedy=remedy)


class PostgresSession:
    """One connection to PostgreSQL."""

    dialect: Final = Dialect.POSTGRES

    def __init__(self, database: PostgresDatabase, connection: Any, errors: Any) -> None:
        self._database = database
        self._connection = connection
        self._errors = errors
        self._driver = PsycopgAsync()

    async def transaction(self, steps: Steps[T]) -> T:
        """See ``Session.transaction``."""
        try:
            async with asyncio.timeout(TRANSACTION_TIMEOUT_S), self._connection.transaction():
                return await run(self._connection, self._driver, steps)
        except TimeoutError as error:
            raise self._database.failure(f"no answer within {TRANSACTION_TIMEOUT_S:g} s", error) from None
        except (self._errors, OSError) as error:
            raise self._database.failure("the transaction failed", error) from None

    async def close(self) -> None:
        """See ``Session.close``."""
        await self._connection.close()


class SqliteDatabase:
    """A SQLite file. It must exist, unless ``create``."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        self._mode = "rwc" if create else "rw"

    def __repr__(self) -> str:
        return f"SqliteDatabase({self.path})"

    async def connect(self) -> Session:
        """See ``Database.connect``."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        try:
            connection = await asyncio.get_running_loop().run_in_executor(thread, self._open)
        except sqlite3.Error as error:
            thread.shutdown(wait=False)
            raise DatabaseError(f"cannot open the file: {error}", where=str(self.path)) from error
        return SqliteSession(self.path, connection, thread)

    def _open(self) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode={self._mode}"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S)
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # a file that is no database says so here
        return connection


class SqliteSession:
    """One connection to SQLite, in a thread of its own."""

    dialect: Final = Dialect.SQLITE

    def __init__(self, path: Path, connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._path = path
        self._connection = connection
        self._thread = thread
        self._driver = Sqlite()

    async def transaction(self, steps: Steps[T]) -> T:
        """See ``Session.transaction``."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._in_thread, steps)
        except sqlite3.Error as error:
            remedy = (
                "create the tables: broker-bridge outbox create-table --database …" if "no such" in str(error) else ""
            )
            raise DatabaseError(f"the transaction failed: {error}", where=str(self._path), remedy=remedy) from error

    def _in_thread(self, steps: Steps[T]) -> T:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            answer = run_blocking(self._connection, self._driver, steps)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return answer

    async def close(self) -> None:
        """See ``Session.close``."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        except RuntimeError:  # closed before: its thread is gone
            return
        self._thread.shutdown(wait=False)


def execute(sql: str, values: tuple[Any, ...] = ()) -> Steps[list[tuple[Any, ...]]]:
    """A procedure of one statement."""
    return (yield Statement(sql, values))


def _psycopg() -> Any:
    try:
        return importlib.import_module("psycopg")
    except ImportError as error:
        raise ConfigError(
            "PostgreSQL needs the driver psycopg 3, which is not installed",
            remedy="pip install 'broker-bridge[postgres]'",
        ) from error
