"""What a scenario is: who is measured, at which points, by which figures. One module a scenario in ``scenarios/``.

The same loop runs them all (``rounds``): round by round, point by point, every contender in turn, so that what the
machine does meanwhile falls on all alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from benchmarks.lab import Lab

Figures = dict[str, float]
"""What one trial measured, by the key of a metric."""


@dataclass(frozen=True)
class Contender:
    """One that does the job. ``needs`` names a module or a program it cannot do without, ``against`` the contender
    that it is compared with where that is not the scenario's ``base``."""

    name: str
    title: str
    needs: str = ""
    against: str = ""


@dataclass(frozen=True)
class Metric:
    """One column: its key in the figures, its heading, and how many decimals are shown."""

    key: str
    heading: str
    decimals: int = 0


@dataclass(frozen=True)
class Point:
    """One value of what is varied, for example 10 000 messages in the backlog."""

    value: float
    title: str


ONE_POINT = (Point(0, ""),)
"""Of a scenario that varies nothing."""


@dataclass(frozen=True)
class Trial:
    """One contender, once, at one point."""

    scenario: str
    contender: Contender
    point: Point
    round: int

    @property
    def name(self) -> str:
        """Different for each trial of a run: names its topics, its group and its keys."""
        return f"{self.scenario}-{self.contender.name}-{self.point.value:.12g}-{self.round}"


class WrongWorkError(Exception):
    """A contender lost, doubled or garbled results: its figures are worth nothing, and the benchmark fails."""


class Scenario(ABC):
    """One question to the machine. A fresh object for each run.

    ``base`` names the contender whose medians the others' are divided by, at the same point; without it the first point
    of the contender itself is the base. ``ratios`` are the keys of the metrics that are divided.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    about: ClassVar[str]
    contenders: ClassVar[tuple[Contender, ...]]
    metrics: ClassVar[tuple[Metric, ...]]
    ratios: ClassVar[tuple[str, ...]]
    base: ClassVar[str | None] = None
    varied: ClassVar[str] = ""

    def __init__(self, *, quick: bool) -> None:
        self.quick = quick

    @property
    def rounds(self) -> int:
        """How often each contender has its turn at each point."""
        return 3

    def points(self) -> Sequence[Point]:
        """What is varied."""
        return ONE_POINT

    def prepare(self, lab: Lab) -> None:  # noqa: B027 - most need nothing
        """Whatever all trials need, once: topics filled, programs built."""

    @abstractmethod
    def measure(self, lab: Lab, trial: Trial) -> Figures:
        """One trial. Raises ``WrongWorkError`` where what came out is not what had to."""
