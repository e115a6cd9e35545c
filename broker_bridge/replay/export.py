"""An export of dead letters as a file: written whole or not at all, checked byte for byte before any of it is used."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

from broker_bridge.core.dead_letter import DeadLetter
from broker_bridge.core.exported_letter import (
    LONGEST_LINE,
    ExportEnd,
    ExportHeader,
    Seal,
    end_line,
    header_line,
    letter_record,
    verify,
)
from broker_bridge.core.foreign_letters import read_letter
from broker_bridge.errors import ExportInvalidError, NotFoundError, ReplayError, UsageError
from broker_bridge.message import Record


class FiledLetter(NamedTuple):
    """A dead letter of a file. ``at`` is where its line begins, in bytes, for ``ExportedFile.read_at``.

    ``record`` is as it stood in the dead-letter topic it was exported from: its place is the one there.
    """

    at: int
    record: Record

    @property
    def letter(self) -> DeadLetter:
        """The record, read, whoever wrote it."""
        return read_letter(self.record)


class ExportedFile:
    """An export that was verified whole, open for reading; one letter in memory. Use ``ExportedFile.open``."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        with self._named():
            self.header, self.end = verify(self._lines(0))

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path) -> Iterator[ExportedFile]:
        """Open and verify. Raises ``NotFoundError`` or ``ExportInvalidError``, which name the file and the line."""
        try:
            file = path.open("rb")
        except FileNotFoundError as error:
            raise NotFoundError("there is no such file", where=str(path)) from error
        except OSError as error:
            raise ExportInvalidError(f"cannot be read: {error.strerror}", where=str(path)) from error
        with file:
            yield cls(path, file)

    def letters(self) -> Iterator[FiledLetter]:
        """The letters in the order of the file; may be walked as often as needed, but not two walks at once."""
        with self._named():
            at = 0
            for number, line in enumerate(self._lines(0), start=1):
                record = letter_record(line, number, topic=self.header.dead_letter_topic)
                if record is not None:
                    yield FiledLetter(at, record)
                at += len(line)

    def read_at(self, at: int) -> DeadLetter:
        """The letter whose line begins at byte ``at``. Raises ``ExportInvalidError`` where none does: the file was
        changed since it was verified, or ``at`` comes from another file."""
        with self._named():
            self._file.seek(at)
            line = self._file.readline(LONGEST_LINE + 1)
            try:
                record = letter_record(line, 0, topic=self.header.dead_letter_topic)
            except ExportInvalidError:
                record = None
            if record is None:
                raise ExportInvalidError(
                    f"no letter begins at byte {at}", remedy="the file was changed meanwhile: export again"
                )
            return read_letter(record)

    def _lines(self, at: int) -> Iterator[bytes]:
        self._file.seek(at)
        while line := self._file.readline(LONGEST_LINE + 1):
            yield line

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Errors name the file."""
        try:
            yield
        except ExportInvalidError as error:
            if error.where:
                raise
            raise ExportInvalidError(error.detail, where=str(self.path), remedy=error.remedy) from error
        except OSError as error:
            raise ExportInvalidError(f"cannot be read: {error.strerror}", where=str(self.path)) from error


class ExportWriter:
    """Writes an export, line by line, to a binary file that somebody else opens."""

    def __init__(self, file: IO[bytes], header: ExportHeader) -> None:
        self._file = file
        self._seal = Seal()
        self.written_bytes = 0
        self._write(self._seal.add(header_line(header)))

    @property
    def letters(self) -> int:
        """How many were written."""
        return self._seal.lines - 1

    def add(self, line: bytes) -> None:
        """One letter, as ``core.exported_letter.letter_line`` made it."""
        self._write(self._seal.add(line))

    def finish(self) -> ExportEnd:
        """Write the end line."""
        end = self._seal.end()
        self._write(end_line(end))
        self._file.flush()
        return end

    def _write(self, line: bytes) -> None:
        self._file.write(line)
        self.written_bytes += len(line)


@contextlib.contextmanager
def new_export(path: Path, header: ExportHeader) -> Iterator[ExportWriter]:
    """A writer whose file gets its name only once the block has ended without an error: there is never half an export
    under it. Raises ``UsageError`` where the file exists, ``ReplayError`` where it cannot be written."""
    if path.exists():
        raise UsageError("the file exists already", where=str(path), remedy="name another with --out")
    partial: Path | None = None
    try:
        # Readable by its owner alone: it holds keys and payloads.
        with tempfile.NamedTemporaryFile(
            "wb", dir=path.parent, prefix=path.name + ".", suffix=".partial", delete=False
        ) as file:
            partial = Path(file.name)
            yield ExportWriter(file, header)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except OSError as error:
        raise ReplayError(f"cannot write the export: {error.strerror}", where=str(path)) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
