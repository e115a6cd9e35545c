"""What a dead letter is worth now, and which letters a command is about.

A dead letter never changes; the claim of its key does. Comparing the two tells whether the letter still waits for
somebody, was settled since, or is an older copy of a message that died again.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, fields

from broker_bridge.core.claim import DISCARDED_DETAIL, STALE_DETAIL, ClaimState, ClaimView, pack_origin, pack_place
from broker_bridge.core.dead_letter import DeadLetter
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

    ``key`` is the record key as text or the idempotency key. ``from_offset`` (inclusive) and ``to_offset``
    (exclusive) are offsets of the *origin*. ``since_ms`` (inclusive) and ``until_ms`` (exclusive) are about the last
    failure, ms since the epoch.
    """

    codes: tuple[str, ...] = ()
    target_codes: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()
    key: str = ""
    partition: int | None = None
    from_offset: int | None = None
    to_offset: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    states: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = {state.value for state in LetterState}
        if unknown := sorted(set(self.states) - known):
            raise UsageError(f"no such state: {', '.join(unknown)}", remedy=f"one of: {', '.join(sorted(known))}")

    def matches(self, letter: DeadLetter) -> bool:
        """Whether the letter itself is meant; its state is looked at by ``matches_state``."""
        failure, offset = letter.failure, letter.origin.offset
        return (
            (not self.codes or failure.code in self.codes)
            and (not self.target_codes or failure.target_code in self.target_codes)
            and (not self.fingerprints or failure.fingerprint in self.fingerprints)
            and (not self.key or self._matches_key(letter))
            and (self.partition is None or letter.origin.partition == self.partition)
            and _within(offset, self.from_offset, self.to_offset)
            and _within(failure.last_ms, self.since_ms, self.until_ms)
        )

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

    def _matches_key(self, letter: DeadLetter) -> bool:
        return self.key == letter.idempotency_key or self.key.encode() == letter.key


def describe_selection(given: Mapping[str, object]) -> str:
    """A selection in one line for people."""
    if not given:
        return "every dead letter of the route"
    return ", ".join(f"{name}={_listed(value)}" for name, value in given.items())


def _listed(value: object) -> str:
    return "|".join(map(str, value)) if isinstance(value, list) else str(value)


def _within(value: int, low: int | None, high: int | None) -> bool:
    return (low is None or value >= low) and (high is None or value < high)
