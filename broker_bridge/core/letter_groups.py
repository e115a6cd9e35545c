"""Dead letters by kind of failure, counted in one pass in bounded memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from broker_bridge.core.dead_letter import DeadLetter
from broker_bridge.core.letters import REPLAYABLE, LetterState
from broker_bridge.message import Position

DISTINCT_KEYS_COUNTED: Final = 1_000
"""Up to here a group's different record keys are counted exactly; beyond it says so instead of a number."""
RELEASES_KEPT: Final = 20
"""Releases a group tells apart."""
GROUPS_KEPT: Final = 2_000
"""Kinds told apart: target codes are whatever targets say. What is beyond is counted as one."""
OTHERS: Final = "(others)"


@dataclass(slots=True)
class LetterGroup:
    """Dead letters of one kind of failure.

    Times in ms since the epoch. ``keys`` holds hashes of record keys and ``releases`` counts letters by the release
    that reported them; both are bounded.
    """

    fingerprint: str
    code: str
    target_code: str
    count: int = 0
    first_ms: int = 0
    last_ms: int = 0
    waiting: int = 0
    example: Position | None = None
    states: Counter[LetterState] = field(default_factory=Counter)
    keys: set[int] = field(default_factory=set)
    releases: Counter[str] = field(default_factory=Counter)

    def add(self, letter: DeadLetter, state: LetterState) -> None:
        """Count one more letter of this kind; the example is the newest that still waits, else the newest."""
        failure = letter.failure
        if not self.count or failure.first_ms < self.first_ms:
            self.first_ms = failure.first_ms
        if failure.last_ms > self.last_ms:
            self.last_ms = failure.last_ms
        self.count += 1
        if len(self.keys) <= DISTINCT_KEYS_COUNTED:
            self.keys.add(hash(letter.key))
        release = letter.release
        if release:
            known = release in self.releases or len(self.releases) < RELEASES_KEPT
            self.releases[release if known else OTHERS] += 1
        if state in REPLAYABLE:
            self.waiting += 1
            self.example = letter.position
        elif not self.waiting:
            self.example = letter.position
        self.states[state] += 1

    @property
    def distinct_keys(self) -> str:
        """How many different record keys, ``1000+`` beyond the bound."""
        found = len(self.keys)
        return str(found) if found <= DISTINCT_KEYS_COUNTED else f"{DISTINCT_KEYS_COUNTED}+"


class LetterGroups:
    """Groups of letters that were added one by one."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], LetterGroup] = {}

    def add(self, letter: DeadLetter, state: LetterState) -> None:
        """Count a letter to its kind."""
        failure = letter.failure
        kind = (failure.code, failure.target_code)
        group = self._groups.get(kind)
        if group is None:
            group = self._new(kind, failure.fingerprint)
        group.add(letter, state)

    def _new(self, kind: tuple[str, str], fingerprint: str) -> LetterGroup:
        if len(self._groups) >= GROUPS_KEPT:
            kind, fingerprint = (OTHERS, ""), ""
        return self._groups.setdefault(kind, LetterGroup(fingerprint, *kind))

    def most_waiting_first(self) -> list[LetterGroup]:
        """All groups, those with most waiting first."""
        return sorted(self._groups.values(), key=lambda group: (-group.waiting, -group.count, group.fingerprint))
