"""Showing that a long command is alive: a bar on a terminal, a line each second elsewhere, JSON lines with ``--json``.

Always on stderr: stdout belongs to results.
"""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from broker_bridge.cli.output import console, wants_json
from broker_bridge.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

LINE_EVERY_S: Final = 1.0


class Progress:
    """A count that grows, as a context manager::

        with Progress("replaying", total=plan.count, unit="records") as progress:
            progress.advance(len(batch))

    ``total`` None: nobody knows how much is to come.
    """

    def __init__(
        self, label: str, *, total: int | None = None, unit: str = "records", as_json: bool | None = None
    ) -> None:
        self.label, self.total, self.unit = printable(label), total, unit
        self.done = 0
        self.facts: dict[str, object] = {}
        self._as_json = wants_json() if as_json is None else as_json
        self._started_s = self._told_s = time.monotonic()
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if not self._as_json and sys.stderr.isatty():
            self._bar = _new_bar(self.unit)
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total, facts="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        else:
            self._tell(ended=kind is None)

    def advance(self, count: int = 1, **facts: object) -> None:
        """``count`` more are done; ``facts`` are shown beside the count."""
        self.facts.update(facts)
        self.update(self.done + count)

    def update(self, done: int, *, total: int | None = None, **facts: object) -> None:
        """``done`` in all are done; ``total`` may become known, or change, on the way."""
        self.done = done
        self.total = self.total if total is None else total
        self.facts.update(facts)
        if self._bar is not None and self._task is not None:
            told = "  ".join(f"{name} {value}" for name, value in self.facts.items())
            self._bar.update(self._task, completed=done, total=self.total, facts=printable(told))
        elif time.monotonic() - self._told_s >= LINE_EVERY_S:
            self._tell(ended=False)

    def _tell(self, *, ended: bool) -> None:
        self._told_s = time.monotonic()
        elapsed_ms = round((self._told_s - self._started_s) * 1000)
        left_ms = None if ended else self.left_ms(elapsed_ms)
        if self._as_json:
            line: dict[str, Any] = {"progress": self.label, "done": self.done, "total": self.total, "unit": self.unit}
            line |= {**self.facts, "elapsed_ms": elapsed_ms, "left_ms": left_ms, "ended": ended}
            print(json.dumps(line, default=str), file=sys.stderr, flush=True)
            return
        count = f"{self.done:,} of {self.total:,}" if self.total is not None else f"{self.done:,}"
        told = "".join(f", {name} {value}" for name, value in self.facts.items())
        end = " done" if ended else ""
        left = "" if left_ms is None else f", about {left_ms / 1000:.0f} s left"
        text = f"{self.label}: {count} {self.unit}{told}{end} ({elapsed_ms / 1000:.1f} s{left})"
        print(printable(text), file=sys.stderr, flush=True)

    def left_ms(self, elapsed_ms: int) -> int | None:
        """How long the rest takes if it goes on as it went so far; None where nobody can tell."""
        if not self.done or self.total is None:
            return None
        return round(elapsed_ms * max(0, self.total - self.done) / self.done)


def _new_bar(unit: str) -> Bar:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[facts]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console(stderr=True),
    )
