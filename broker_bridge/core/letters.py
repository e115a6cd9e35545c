"""What a dead letter is worth now, and which letters a command is about.

A dead letter never changes; the claim of its key does. Comparing the two tells whether the letter still waits for
somebody, was settled since, or is an older copy of a message that died again.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from broker_bridge.core.claim import DISCARDED_DETAIL, STALE_DETAIL, ClaimState, ClaimView, pack_origin, pack_place
from broker_bridge.core.dead_letter import DeadLetter
from broker_bridge.core.letter_filter import where_of
from broker_bridge.errors import KeyConflictError, UsageError


class LetterState(enum.StrEnum):
    """What became of a dead letter's message. Only ``waiting`` and ``dead_again`` can be replayed."""

    WAITING = "waiting"
    """The claim names this very letter; it was never replayed."""
    DEAD_AGAIN = "dead_again"
    """The claim names this very letter, which was written after a replay."""
    REPLAYING = "replaying"
    """The message is in hand or in a retry lane."""
    RESOLVED = "resolved"
    """The message completed since."""
    STALE = "stale"
    """A replay was turned away: a newer version of its record key was completed."""
    DISCARDED = "discarded"
    """An operator discarded it."""
    SUPERSEDED = "superseded"
    """The claim names another letter of the same message."""
    CONFLICT = "conflict"
    """The key belongs to another record with another payload: a replay would only conflict again."""
    UNKNOWN = "unknown"
    """No claim is stored (expired, or lost): nothing would stop a second effect (I19)."""


REPLAYABLE = frozenset({LetterState.WAITING, LetterState.DEAD_AGAIN})

_ENDINGS = {STALE_DETAIL: LetterState.STALE, DISCARDED_DETAIL: LetterState.DISCARDED}


def letter_state(letter: DeadLetter, claim: ClaimView | None) -> LetterState:
    """Compare a letter with the stored claim of its key."""
    if letter.failure.code == KeyConflictError.code and (claim is None or claim.origin != pack_origin(*letter.origin)):
        return LetterState.CONFLICT
    if claim is None:
        return LetterState.UNKNOWN
    if claim.state is ClaimState.COMPLETED:
        return _ENDINGS.get(claim.detail, LetterState.RESOLVED)
    if claim.state is not ClaimState.DEAD:
        return LetterState.REPLAYING
    if claim.detail[:12] != pack_place(letter.position.partition, letter.position.offset):
        return LetterState.SUPERSEDED
    return LetterState.DEAD_AGAIN if letter.hops else LetterState.WAITING


@dataclass(slots=True, frozen=True)
class Selection:
    """Which dead letters are meant; an empty field means any.

    ``key`` is the record key as text or the idempotency key. ``headers`` are ``NAME=VALUE``, or ``NAME`` for a header
    that is there whatever its value; all must hold. ``from_offset`` (inclusive) and ``to_offset`` (exclusive) are
    offsets of the *origin*, ``letter_from`` and ``letter_to`` those of the letters themselves. ``since_ms`` (inclusive)
    and ``until_ms`` (exclusive) are about the last failure, ms since the epoch. ``where`` is an expression
    (``core.letter_filter``). Raises ``UsageError`` for a state that does not exist and an expression that does not
    parse.
    """

    codes: tuple[str, ...] = ()
    target_codes: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()
    key: str = ""
    headers: tuple[str, ...] = ()
    partition: int | None = None
    from_offset: int | None = None
    to_offset: int | None = None
    letter_from: int | None = None
    letter_to: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    states: tuple[str, ...] = ()
    where: str = ""

    def __post_init__(self) -> None:
        known = {state.value for state in LetterState}
        if unknown := sorted(set(self.states) - known):
            raise UsageError(f"no such state: {', '.join(unknown)}", remedy=f"one of: {', '.join(sorted(known))}")
        if nameless := [given for given in self.headers if not given.partition("=")[0]]:
            raise UsageError(
                f"{nameless[0]!r} names no header", remedy="write NAME=VALUE, or NAME where any value will do"
            )
        if self.where:
            where_of(self.where)

    def tests(self) -> list[Callable[[DeadLetter], bool]]:
        """What must hold of a letter, cheapest first; state and ``where`` are looked at by others."""
        codes, target_codes, fingerprints = map(frozenset, (self.codes, self.target_codes, self.fingerprints))
        partition = self.partition
        tests: list[Callable[[DeadLetter], bool]] = []
        if partition is not None:
            tests.append(lambda letter: letter.origin.partition == partition)
        if codes:
            tests.append(lambda letter: letter.failure.code in codes)
        if target_codes:
            tests.append(lambda letter: letter.failure.target_code in target_codes)
        if fingerprints:
            tests.append(lambda letter: letter.failure.fingerprint in fingerprints)
        if self.from_offset is not None or self.to_offset is not None:
            tests.append(lambda letter: _within(letter.origin.offset, self.from_offset, self.to_offset))
        if self.letter_from is not None or self.letter_to is not None:
            tests.append(lambda letter: _within(letter.position.offset, self.letter_from, self.letter_to))
        if self.since_ms is not None or self.until_ms is not None:
            tests.append(lambda letter: _within(letter.failure.last_ms, self.since_ms, self.until_ms))
        if self.key:
            tests.append(self._matches_key)
        tests += [_header_test(given) for given in self.headers]
        return tests

    def matches(self, letter: DeadLetter) -> bool:
        """Whether the letter itself is meant, ``where`` aside; its state is looked at by ``matches_state``."""
        return all(test(letter) for test in self.tests())

    def matches_state(self, state: LetterState) -> bool:
        """Whether letters in this state are meant."""
        return not self.states or state.value in self.states

    def as_json(self) -> dict[str, object]:
        """The fields that were given."""
        given: dict[str, object] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value not in ((), "", None):
                given[field.name] = list(value) if isinstance(value, tuple) else value
        return given

    @classmethod
    def from_json(cls, given: Mapping[str, object]) -> Selection:
        """What ``as_json`` wrote. Raises ``UsageError`` for anything else."""
        known = {field.name: field.default for field in fields(cls)}
        read: dict[str, Any] = {}
        for name, value in given.items():
            if name not in known:
                raise UsageError(f"a selection has no {name!r}", remedy=f"it has: {', '.join(known)}")
            if known[name] == ():
                fits = isinstance(value, list) and all(isinstance(one, str) for one in value)
                read[name] = tuple(value) if fits and isinstance(value, list) else None
            else:
                fits = isinstance(value, str if known[name] == "" else int) and not isinstance(value, bool)
                read[name] = value
            if not fits:
                raise UsageError(f"{name} of a selection cannot be {value!r}")
        return cls(**read)

    def _matches_key(self, letter: DeadLetter) -> bool:
        return self.key == letter.idempotency_key or self.key.encode() == letter.key


def _header_test(given: str) -> Callable[[DeadLetter], bool]:
    """Whether any header of the name has the value; without ``=`` any value will do."""
    name, equals, text = given.partition("=")
    value = text.encode()
    if not equals:
        return lambda letter: any(known == name for known, _ in letter.headers)
    return lambda letter: (name, value) in letter.headers


def describe_selection(given: Mapping[str, object]) -> str:
    """A selection in one line for people."""
    if not given:
        return "every dead letter of the route"
    return ", ".join(f"{name}={_listed(value)}" for name, value in given.items())


def _listed(value: object) -> str:
    return "|".join(map(str, value)) if isinstance(value, list) else str(value)


def _within(value: int, low: int | None, high: int | None) -> bool:
    return (low is None or value >= low) and (high is None or value < high)
