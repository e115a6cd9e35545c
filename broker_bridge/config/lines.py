"""Which line of a TOML file a key stands on. The parser does not say, so the headers and keys are read once more.

This is for messages only: whatever it does not understand (keys inside inline tables, for one) is answered with the
line of what holds it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")
_MULTILINE = ('"""', "'''")

Path = tuple[str | int, ...]


class LineIndex:
    """Lines of every table header and key of a TOML text, counted from 1."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {}
        self._entries: dict[Path, int] = {}
        table: Path = ()
        for number, line in _code_lines(text):
            if header := _HEADER.match(line):
                table = self._table(_parts(header[2]), is_list=header[1] == "[[")
                for length in range(1, len(table) + 1):
                    self._lines.setdefault(table[:length], number)
            elif key := _KEY.match(line):
                path = (*table, *_parts(key[1]))
                for length in range(len(table) + 1, len(path) + 1):
                    self._lines.setdefault(path[:length], number)

    def _table(self, parts: list[str], *, is_list: bool) -> Path:
        """The full path of a header: a list on the way stands for its latest entry."""
        path: Path = ()
        for depth, part in enumerate(parts):
            path = (*path, part)
            if is_list and depth == len(parts) - 1:
                self._entries[path] = self._entries.get(path, -1) + 1
            if path in self._entries:
                path = (*path, self._entries[path])
        return path

    def find(self, path: Path) -> int | None:
        """The line of the key, else of the nearest table that holds it, else None."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._lines:
                return self._lines[path[:length]]
        return None


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in _PART.findall(dotted)]


def _code_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, without those inside multi-line texts."""
    closing = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if closing:
            if closing in line:
                closing = ""
            continue
        yield number, line
        for quotes in _MULTILINE:
            if line.count(quotes) % 2:
                closing = quotes
