"""The inbox of one consumer, on async connections and on blocking ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

from broker_bridge.consumer import Context
from broker_bridge.database.drivers import Driver, driver_of, in_transaction, run, run_blocking
from broker_bridge.database.statement import Dialect, table_name
from broker_bridge.errors import UnsafeSettingsError, UsageError
from broker_bridge.inbox.statements import InboxStatements
from broker_bridge.message import Message

DEFAULT_TABLE: Final = "bridge_inbox"
PURGE_ROWS: Final = 10_000


class _Settings:
    """What both kinds of inbox know."""

    def __init__(self, *, consumer: str, table: str = DEFAULT_TABLE) -> None:
        if not consumer or "\0" in consumer:
            raise UsageError("an inbox needs the name of its consumer", remedy='for example Inbox(consumer="billing")')
        self.consumer = consumer
        self.table = table_name(table)

    def statements(self, dialect: Dialect) -> InboxStatements:
        """The procedures for one dialect."""
        return InboxStatements(dialect, consumer=self.consumer, table=self.table)

    def create_table_sql(self, dialect: Dialect | str) -> str:
        """The SQL that creates the tables (``"postgresql"`` or ``"sqlite"``), for a migration."""
        return ";\n".join(self.statements(Dialect(dialect)).tables()) + ";\n"


class Inbox(_Settings):
    """Remembers which messages ``consumer`` has applied, in a table of the consumer's own database.

    Every method but ``create`` and ``purge`` must be called inside the transaction that has the effect; they raise
    ``UsageError`` outside one. What the driver raises comes out as it is: let it, and the message is tried again.
    ``consumer`` is usually the group; two consumers share one table without knowing of each other.
    """

    @property
    def blocking(self) -> BlockingInbox:
        """The same inbox for blocking connections, in a thread: ``await asyncio.to_thread(bill, message, context)``."""
        return BlockingInbox(consumer=self.consumer, table=self.table)

    async def first_time(self, connection: Any, message: Message[Any], context: Context | None = None) -> bool:
        """Enter the message; False where it is entered already, and its effect therefore committed.

        A second transaction with the same message waits here until the first has ended. ``context`` has the fencing
        token that is kept beside it.
        """
        driver = in_transaction(connection)
        return await run(connection, driver, self._of(driver).enter(message, context.token if context else 0))

    async def once(
        self,
        connection: Any,
        message: Message[Any],
        context: Context | None,
        effect: Callable[[], Awaitable[Any]],
    ) -> Any:
        """The answer of ``effect``, which runs the first time only; later the answer of that first time.

        An answer is kept as JSON. Raises ``UsageError`` where it is none.
        """
        if not await self.first_time(connection, message, context):
            return await self.recall(connection, message)
        answer = await effect()
        if answer is not None:
            await self.remember(connection, message, answer)
        return answer

    async def remember(self, connection: Any, message: Message[Any], answer: Any) -> None:
        """Keep the answer (JSON, or a pydantic model) beside the message, which must be entered."""
        driver = in_transaction(connection)
        await run(connection, driver, self._of(driver).remember(message, answer))

    async def recall(self, connection: Any, message: Message[Any]) -> Any:
        """The answer that was kept, None without one."""
        driver = driver_of(connection)
        return await run(connection, driver, self._of(driver).recall(message))

    async def fence(self, connection: Any, key: bytes | str, token: int) -> None:
        """Refuse an older holder of a record key: raises ``FencedError`` where a larger token was here before (I10).

        For effects that are not one row a message, such as overwriting a balance. Call it before the effect.
        """
        driver = in_transaction(connection)
        await run(connection, driver, self._of(driver).fence(key, token))

    async def create(self, connection: Any) -> None:
        """Create the tables where they are missing. Commit it, unless the connection does so by itself."""
        driver = driver_of(connection)
        await run(connection, driver, self._of(driver).create())

    async def purge(
        self, connection: Any, *, older_than: timedelta, replay_window: timedelta, limit: int = PURGE_ROWS
    ) -> int:
        """Forget messages applied longer ago than ``older_than``, at most ``limit`` of them; how many.

        A message that is forgotten and comes again is applied again. ``replay_window`` is the longest time after which
        one can come: the largest of the source topic's retention, the retries' total time plus the dead letters'
        retention, and how old a replay may be (I19). Raises ``UnsafeSettingsError`` where it is the longer of the two.
        """
        driver = driver_of(connection)
        older_than_ms = purge_age_ms(older_than, replay_window)
        return await run(connection, driver, self._of(driver).purge(older_than_ms, limit))

    def _of(self, driver: Driver) -> InboxStatements:
        return self.statements(driver.dialect)


class BlockingInbox(_Settings):
    """``Inbox`` for ``psycopg.Connection`` and ``sqlite3.Connection``; each method is that of ``Inbox``."""

    def first_time(self, connection: Any, message: Message[Any], context: Context | None = None) -> bool:
        """See ``Inbox.first_time``."""
        driver = in_transaction(connection)
        steps = self.statements(driver.dialect).enter(message, context.token if context else 0)
        return run_blocking(connection, driver, steps)

    def once(self, connection: Any, message: Message[Any], context: Context | None, effect: Callable[[], Any]) -> Any:
        """See ``Inbox.once``."""
        if not self.first_time(connection, message, context):
            return self.recall(connection, message)
        answer = effect()
        if answer is not None:
            self.remember(connection, message, answer)
        return answer

    def remember(self, connection: Any, message: Message[Any], answer: Any) -> None:
        """See ``Inbox.remember``."""
        driver = in_transaction(connection)
        run_blocking(connection, driver, self.statements(driver.dialect).remember(message, answer))

    def recall(self, connection: Any, message: Message[Any]) -> Any:
        """See ``Inbox.recall``."""
        driver = driver_of(connection)
        return run_blocking(connection, driver, self.statements(driver.dialect).recall(message))

    def fence(self, connection: Any, key: bytes | str, token: int) -> None:
        """See ``Inbox.fence``."""
        driver = in_transaction(connection)
        run_blocking(connection, driver, self.statements(driver.dialect).fence(key, token))

    def create(self, connection: Any) -> None:
        """See ``Inbox.create``."""
        driver = driver_of(connection)
        run_blocking(connection, driver, self.statements(driver.dialect).create())

    def purge(
        self, connection: Any, *, older_than: timedelta, replay_window: timedelta, limit: int = PURGE_ROWS
    ) -> int:
        """See ``Inbox.purge``."""
        driver = driver_of(connection)
        steps = self.statements(driver.dialect).purge(purge_age_ms(older_than, replay_window), limit)
        return run_blocking(connection, driver, steps)


def purge_age_ms(older_than: timedelta, replay_window: timedelta) -> int:
    """``older_than`` in ms. Raises ``UnsafeSettingsError``."""
    if older_than < replay_window:
        raise UnsafeSettingsError(
            f"rows {older_than} old would be forgotten, but a message can come again for {replay_window}: it would be "
            "applied a second time",
            remedy="purge later, or make the window shorter (retention of source and dead letters, replays)",
        )
    return int(older_than / timedelta(milliseconds=1))
