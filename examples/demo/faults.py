"""What goes wrong while the stream runs, and when: driven by the stream's progress, one trouble after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass
class Fault:
    """One trouble: begins once ``share`` of the stream was sent, ends ``lasts_s`` seconds later.

    ``begin`` may take a while and returns when it has happened; so does ``end``, which mends it.
    """

    name: str
    title: str
    share: float
    lasts_s: float
    begin: Callable[[], None]
    end: Callable[[], None] = lambda: None
    begun_s: float | None = None
    ended_s: float | None = None

    @property
    def is_over(self) -> bool:
        return self.ended_s is not None

    @property
    def is_on(self) -> bool:
        return self.begun_s is not None and self.ended_s is None


@dataclass
class Timeline:
    """The faults in order. ``now_s`` is the clock that their times are of: seconds since the epoch."""

    faults: Sequence[Fault]
    say: Callable[[str], None] = lambda _text: None
    now_s: Callable[[], float] = time.time

    def tick(self, share: float) -> None:
        """Begin and end what is due; ``share`` of the stream was sent. The next begins only after the one before."""
        for fault in self.faults:
            if fault.is_over:
                continue
            if fault.begun_s is None and share >= fault.share:
                fault.begun_s = self.now_s()
                self.say(f"{fault.title} (at {share:.0%} of the stream)")
                fault.begin()
            if fault.begun_s is not None and self.now_s() >= fault.begun_s + fault.lasts_s:
                fault.end()
                fault.ended_s = self.now_s()
                continue
            return

    @property
    def is_over(self) -> bool:
        return all(fault.is_over for fault in self.faults)

    @property
    def current(self) -> str:
        """The trouble that is on now, or nothing."""
        return next((fault.title for fault in self.faults if fault.is_on), "")
