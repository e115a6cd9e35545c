"""A folder of schemas as a server holds it: always as it is on disk now, whoever changed it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from broker_bridge.contracts.contract import Contract
from broker_bridge.contracts.directory import SchemaDirectory
from broker_bridge.contracts.folder_files import locked
from broker_bridge.contracts.ids_file import IDS_FILE
from broker_bridge.contracts.levels import Levels, read_levels, write_levels

_Stamp = tuple[int, int, int]


class ServedFolder:
    """Usable by several threads. What git, an editor or another process changes is seen at the next question: the file
    of ids is replaced whenever a version is added, and tells by its inode, time and size."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._loaded: tuple[_Stamp, SchemaDirectory] | None = None

    def directory(self) -> SchemaDirectory:
        """The registered schemas. Raises NotFoundError and ContractError where the folder is broken."""
        stamp = self._stamp()
        if self._loaded is None or self._loaded[0] != stamp:
            self._loaded = (stamp, SchemaDirectory(self.path, drafts=True))
        return self._loaded[1]

    def levels(self) -> Levels:
        """The rules for new versions. Raises ContractError."""
        return read_levels(self.path)

    def submit(self, subject: str, text: str) -> Contract:
        """Register a schema under the subject's rule. Raises ContractError, IncompatibleError."""
        return self.directory().submit(subject, text, mode=self.levels().of(subject))

    def change_levels(self, change: Callable[[Levels], Levels]) -> None:
        """Replace the rules, one writer at a time. Raises ContractError."""
        with locked(self.path):
            before = read_levels(self.path)
            after = change(before)
            if after != before:
                write_levels(self.path, after)

    def _stamp(self) -> _Stamp:
        try:
            found = (self.path / IDS_FILE).stat()
        except OSError:
            return (0, 0, 0)  # the load says what is wrong
        return (found.st_ino, found.st_mtime_ns, found.st_size)
