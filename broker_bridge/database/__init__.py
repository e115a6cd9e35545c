"""SQL databases as the inbox and the outbox use them: PostgreSQL and SQLite, by the driver a service has already."""

from broker_bridge.database.drivers import driver_of, run, run_blocking
from broker_bridge.database.session import Database, Session, open_database
from broker_bridge.database.statement import Dialect, Row, Statement, Steps

__all__ = [
    "Database",
    "Dialect",
    "Row",
    "Session",
    "Statement",
    "Steps",
    "driver_of",
    "open_database",
    "run",
    "run_blocking",
]
