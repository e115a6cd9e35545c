"""Names of the topics that belong to one group: retry lanes, the redrive lane, the dead-letter topic."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from broker_bridge.core.duration import format_duration

LONGEST_TOPIC_NAME: Final = 249
"""Kafka's own limit (``org.apache.kafka.common.internals.Topic``)."""

_LEGAL = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)


class LaneNames(NamedTuple):
    """The lanes of ``group`` for messages of the source ``topic``.

    ::

        payments.orders.placed.retry-2s     to be tried again two seconds after the failure
        payments.orders.placed.redrive      replays, seen by this group only
        payments.orders.placed.dlq          dead letters
    """

    group: str
    topic: str

    def retry(self, delay_ms: int) -> str:
        """The lane whose messages wait ``delay_ms``."""
        return f"{self.group}.{self.topic}.retry-{format_duration(delay_ms)}"

    def retries(self, lanes_ms: Iterable[int]) -> list[str]:
        """The retry lanes, in the order of their delays as given."""
        return [self.retry(delay_ms) for delay_ms in lanes_ms]

    @property
    def redrive(self) -> str:
        """Where a replay puts messages."""
        return f"{self.group}.{self.topic}.redrive"

    @property
    def dead_letter(self) -> str:
        """Where messages wait that could not be handled."""
        return f"{self.group}.{self.topic}.dlq"

    def read(self, lanes_ms: Iterable[int]) -> list[str]:
        """The lanes a worker reads beside the source: retries and redrive."""
        return [*self.retries(lanes_ms), self.redrive]

    def all(self, lanes_ms: Iterable[int]) -> list[str]:
        """Every lane: retries, redrive, dead letters."""
        return [*self.read(lanes_ms), self.dead_letter]


def topic_name_problem(name: str) -> str | None:
    """What Kafka would refuse about this topic name, None where it is fine."""
    if not name:
        return "must not be empty"
    if name in (".", ".."):
        return "must not be '.' or '..'"
    if not _LEGAL.fullmatch(name):
        return "may hold only letters, digits, '.', '_' and '-'"
    if len(name) > LONGEST_TOPIC_NAME:
        return f"is {len(name)} characters long; Kafka allows {LONGEST_TOPIC_NAME}"
    return None
