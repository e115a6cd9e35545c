"""What the demo shows while it runs: live on a terminal, plain lines elsewhere, JSON lines on request."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

PLAIN_EVERY_S = 3.0
PLAIN_WIDTH = 132
OUTPUT_LINES = 12
"""At most so many lines of a command's output are shown."""


class Screen(ABC):
    """Phases one after the other, each timed; within one, progress and remarks."""

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str, title: str) -> Iterator[None]:
        """Show a phase from begin to end and keep its time in seconds under ``name``."""
        started = time.monotonic()
        self.begin(name, title)
        try:
            yield
        finally:
            self.phases[name] = time.monotonic() - started
        self.end(name, title, self.phases[name])

    @abstractmethod
    def begin(self, name: str, title: str) -> None:
        """A phase begins."""

    @abstractmethod
    def end(self, name: str, title: str, took_s: float) -> None:
        """It has ended well."""

    @abstractmethod
    def progress(self, share: float | None, facts: str) -> None:
        """How far the phase is (0 to 1, None where that is not known), and the numbers of the moment."""

    @abstractmethod
    def say(self, text: str) -> None:
        """Something happened that stays on the screen."""

    @abstractmethod
    def command(self, line: str, printed: str) -> None:
        """A command that was run, and what it printed."""

    @abstractmethod
    def close(self) -> None:
        """Nothing more is live from here on."""


class LiveScreen(Screen):
    """For people on a terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self._bar = Progress(
            SpinnerColumn(style="cyan"),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[facts]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._bar.start()

    def begin(self, name: str, title: str) -> None:
        self._task = self._bar.add_task(title, total=None, facts="")

    def end(self, name: str, title: str, took_s: float) -> None:
        self._drop()
        self.console.print(Text.assemble(("✓ ", "green"), (f"{title}", ""), (f"  {took_s:.1f} s", "dim")))

    def _drop(self) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None

    def progress(self, share: float | None, facts: str) -> None:
        if self._task is not None:
            total = None if share is None else 1.0
            self._bar.update(self._task, completed=share or 0.0, total=total, facts=facts)

    def say(self, text: str) -> None:
        self.console.print(Text(f"  · {text}"))

    def command(self, line: str, printed: str) -> None:
        self.console.print(Text(f"  $ {line}", style="bold cyan"))
        for text in shortened(printed):
            self.console.print(Text(f"    {text}", style="dim"), soft_wrap=True)

    def close(self) -> None:
        self._drop()
        self._bar.stop()


class PlainScreen(Screen):
    """For logs: a line for each thing, and progress now and then."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self._told_s = 0.0

    def _print(self, text: str) -> None:
        self.console.print(Text(text), soft_wrap=True)

    def begin(self, name: str, title: str) -> None:
        self._told_s = time.monotonic()
        self._print(f"- {title} …")

    def end(self, name: str, title: str, took_s: float) -> None:
        self._print(f"✓ {title}  {took_s:.1f} s")

    def progress(self, share: float | None, facts: str) -> None:
        if facts and time.monotonic() - self._told_s >= PLAIN_EVERY_S:
            self._told_s = time.monotonic()
            self._print(f"  {'' if share is None else f'{share:>4.0%}  '}{facts}")

    def say(self, text: str) -> None:
        self._print(f"  · {text}")

    def command(self, line: str, printed: str) -> None:
        self._print(f"  $ {line}")
        for text in shortened(printed):
            self._print(f"    {text}")

    def close(self) -> None:
        """Nothing is live."""


class JsonScreen(Screen):
    """One JSON object a line, for programs."""

    def __init__(self) -> None:
        super().__init__()
        self._told_s = 0.0

    def _tell(self, what: str, **fields: object) -> None:
        print(json.dumps({"what": what, **fields}, ensure_ascii=False), flush=True)

    def begin(self, name: str, title: str) -> None:
        self._tell("phase_begun", phase=name, title=title)

    def end(self, name: str, title: str, took_s: float) -> None:
        self._tell("phase_ended", phase=name, took_s=round(took_s, 3))

    def progress(self, share: float | None, facts: str) -> None:
        if time.monotonic() - self._told_s >= 1.0:
            self._told_s = time.monotonic()
            self._tell("progress", share=None if share is None else round(share, 4), facts=facts)

    def say(self, text: str) -> None:
        self._tell("note", text=text)

    def command(self, line: str, printed: str) -> None:
        self._tell("command", command=line, printed=printed)

    def close(self) -> None:
        """Nothing is live."""


def shortened(printed: str, limit: int = OUTPUT_LINES) -> list[str]:
    """The lines of an output, the middle left out where there are too many."""
    lines = [line.rstrip() for line in printed.rstrip().splitlines()]
    return lines if len(lines) <= limit else [*lines[: limit - 2], "…", lines[-1]]


class DemoConsole(Console):
    """A console that says by BrokenPipeError, not by leaving, that nobody reads it any more."""

    def on_broken_pipe(self) -> None:
        with contextlib.suppress(SystemExit):
            super().on_broken_pipe()
        raise BrokenPipeError


def open_screen(*, as_json: bool) -> Screen:
    """The screen that fits standard output."""
    if as_json:
        return JsonScreen()
    if sys.stdout.isatty():
        return LiveScreen(DemoConsole(highlight=False))
    return PlainScreen(plain_console())


def plain_console() -> Console:
    """Text without colours or cursor movements, wide enough for the final table."""
    return DemoConsole(file=sys.stdout, width=PLAIN_WIDTH, highlight=False, color_system=None, force_terminal=False)
