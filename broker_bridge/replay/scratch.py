"""Rows that may be too many for memory, in a file that nobody sees.

It is SQLite's own temporary database: its file is unlinked as soon as it is open, so that nothing is left of it, killed
or not. SQLite keeps a few MB of it in memory and sorts on disk; where that is, the variable ``SQLITE_TMPDIR`` says
(otherwise ``/var/tmp`` or ``/tmp``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from broker_bridge.errors import AuditError

Row = tuple[Any, ...]

CACHE_KIB = 8_192
BATCH = 1_000
"""Rows written in one go."""


class Scratch:
    """One temporary database; ``close`` ends it. Every call raises ``AuditError`` where the disk has no room.

    One thread at a time may use it, not always the same.
    """

    def __init__(self, tables: str) -> None:
        with _room():
            self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._database.executescript(
                f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA temp_store=FILE; "
                f"PRAGMA cache_size=-{CACHE_KIB}; {tables}"
            )
            self._database.execute("BEGIN")
        self._waiting: dict[str, list[Row]] = {}

    def add(self, statement: str, row: Row) -> None:
        """Write one row; many are written together, statements in the order of their first use: one that looks at what
        an earlier one wrote finds all that was added before."""
        rows = self._waiting.setdefault(statement, [])
        rows.append(row)
        if len(rows) >= BATCH:
            self._flush()

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> None:
        """A statement without an answer, after all that was added."""
        with _room():
            self._flush()
            self._database.execute(statement, parameters)

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> Iterator[Row]:
        """The answer row by row, over all that was added before."""
        with _room():
            self._flush()
            cursor = self._database.execute(statement, parameters)
        while True:
            with _room():
                found = cursor.fetchmany(BATCH)
            if not found:
                return
            yield from found

    def count(self, statement: str) -> int:
        """The one number that a statement answers with."""
        return int(next(self.rows(statement))[0])

    def interrupt(self) -> None:
        """Break off the statement that another thread waits for; it raises ``AuditError``."""
        self._database.interrupt()

    def close(self) -> None:
        """End it and its file. Idempotent."""
        self._database.close()

    def _flush(self) -> None:
        for statement, rows in self._waiting.items():
            self._write(statement, rows)

    def _write(self, statement: str, rows: list[Row]) -> None:
        with _room():
            self._database.executemany(statement, rows)
        rows.clear()


def in_step(left: Iterable[Row], right: Iterable[Row]) -> Iterator[tuple[Any, Iterator[Row], Iterator[Row]]]:
    """Both sides by the first column of their rows, in which they are sorted: the value, the rows of either side that
    have it (to be read before the next step)."""
    lefts, rights = (groupby(side, key=lambda row: row[0]) for side in (left, right))
    nothing: tuple[Any, Iterator[Row]] = (None, iter(()))
    here, there = next(lefts, nothing), next(rights, nothing)
    while here is not nothing or there is not nothing:
        takes_left = here is not nothing and (there is nothing or here[0] <= there[0])
        takes_right = there is not nothing and (here is nothing or there[0] <= here[0])
        value = here[0] if takes_left else there[0]
        yield value, here[1] if takes_left else iter(()), there[1] if takes_right else iter(())
        here = next(lefts, nothing) if takes_left else here
        there = next(rights, nothing) if takes_right else there


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise AuditError(
            f"its temporary file cannot be written: {error}",
            remedy="make room in the folder for temporary files, or name another with SQLITE_TMPDIR; or audit a range",
        ) from error
