"""Python source that the compilers put together, with the field that each line is about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any


class Source:
    """Lines, their field paths, and the constants they name."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.paths: list[str] = []
        self.constants: dict[str, Any] = {}
        self.indent = 0
        self._path = ""
        self._names = 0

    def line(self, text: str) -> None:
        """One line at the present indentation, about the present field."""
        self.lines.append("    " * self.indent + text)
        self.paths.append(self._path)

    def name(self, letter: str) -> str:
        """A variable that no other line uses."""
        self._names += 1
        return f"{letter}{self._names}"

    def constant(self, value: Any) -> str:
        """A name for a value that the code needs."""
        if value is None or value is True or value is False:
            return repr(value)
        name = f"K{len(self.constants)}"
        self.constants[name] = value
        return name

    @contextmanager
    def indented(self) -> Iterator[None]:
        """Lines one level deeper."""
        self.indent += 1
        yield
        self.indent -= 1

    @contextmanager
    def at(self, step: str) -> Iterator[None]:
        """Lines about a field of the present field, or about its items (``[]``)."""
        before = self._path
        self._path = f"{before}.{step}" if before and step != "[]" else before + step
        yield
        self._path = before


def load(source: Source, filename: str) -> Callable[..., Any]:
    """The function ``main`` of the source. Its globals hold ``PATHS``: the field of each line."""
    space = {**source.constants, "PATHS": tuple(source.paths)}
    # The text holds numbers, names made here and texts passed through repr(): see the two compilers.
    exec(compile("\n".join(source.lines), filename, "exec"), space)  # noqa: S102
    main: Callable[..., Any] = space["main"]
    return main


def failed_at(trace: TracebackType | None) -> tuple[str, dict[str, Any]]:
    """Field of the line at which loaded source failed, and its variables. The way without errors pays nothing for
    it."""
    field: str = ""
    variables: dict[str, Any] = {}
    while trace is not None:
        paths = trace.tb_frame.f_globals.get("PATHS")
        if paths is not None:
            field, variables = paths[trace.tb_lineno - 1], trace.tb_frame.f_locals
        trace = trace.tb_next
    return field, variables
