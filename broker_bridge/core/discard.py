"""What a discard does with each dead letter, and how it writes down which they were."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final, NamedTuple

from broker_bridge.core.claim import DISCARDED_DETAIL, ClaimAnswer, ClaimStatus, ClaimView
from broker_bridge.core.letters import REPLAYABLE, LetterState
from broker_bridge.core.operator_claim import left_by

LONGEST_TEXT: Final = 1_000
"""Characters of one text of places, and below what an operation's record cuts."""
TEXTS_A_RECORD: Final = 50
LISTING: Final = "places"
"""The phase of an operation that only lists places: of a large discard there are many."""


class Fate(enum.StrEnum):
    """What a discard does with a letter."""

    TO_DISCARD = "to_discard"
    DISCARDED = "discarded"
    """By this discard."""
    ALREADY_DISCARDED = "already_discarded"
    COMPLETED = "completed"
    """The message completed since, or was turned away as stale."""
    SUPERSEDED = "superseded"
    """A later dead letter stands for the message."""
    IN_HAND = "in_hand"
    """A worker has the message, or it waits in a retry lane."""
    KEY_CONFLICT = "key_conflict"
    """Its key is another message's: there is no claim that could say that this one was discarded."""
    CLAIM_EXPIRED = "claim_expired"
    """No claim is stored, so that nobody knows whether the message completed."""


_BY_STATE = {
    LetterState.RESOLVED: Fate.COMPLETED,
    LetterState.STALE: Fate.COMPLETED,
    LetterState.DISCARDED: Fate.ALREADY_DISCARDED,
    LetterState.SUPERSEDED: Fate.SUPERSEDED,
    LetterState.REPLAYING: Fate.IN_HAND,
    LetterState.CONFLICT: Fate.KEY_CONFLICT,
    LetterState.UNKNOWN: Fate.CLAIM_EXPIRED,
}


def fate_of(state: LetterState, claim: ClaimView | None, *, allow_expired: bool) -> Fate:
    """What to do with a letter in this state."""
    if state in REPLAYABLE or (state is LetterState.UNKNOWN and allow_expired) or left_by(claim):
        return Fate.TO_DISCARD
    return _BY_STATE[state]


def fate_when_refused(answer: ClaimAnswer) -> Fate:
    """What became of a letter that was to be discarded and whose claim was not granted: somebody was there first."""
    if answer.status is ClaimStatus.DONE:
        return Fate.ALREADY_DISCARDED if answer.result == DISCARDED_DETAIL else Fate.COMPLETED
    return Fate.KEY_CONFLICT if answer.status is ClaimStatus.CONFLICT else Fate.IN_HAND


class Place(NamedTuple):
    """Where a letter stands in the dead-letter topic."""

    partition: int
    offset: int


def place_texts(places: Iterable[Place]) -> Iterator[list[str]]:
    """Places as ``partition/first-last,offset,…``, in lists that each fit one record of the operations topic."""
    texts: list[str] = []
    for partition, found in groupby(sorted(places), key=lambda place: place.partition):
        text = ""
        for part in _ranges(place.offset for place in found):
            if text and len(text) + len(part) >= LONGEST_TEXT:
                texts.append(text)
                text = ""
            text = f"{text},{part}" if text else f"{partition}/{part}"
        texts.append(text)
    for at in range(0, len(texts), TEXTS_A_RECORD):
        yield texts[at : at + TEXTS_A_RECORD]


def read_place_texts(texts: Iterable[str]) -> Iterator[Place]:
    """The reverse of ``place_texts``. Raises ``ValueError``."""
    for text in texts:
        partition, _, parts = text.partition("/")
        for part in parts.split(","):
            first, _, last = part.partition("-")
            for offset in range(int(first), int(last or first) + 1):
                yield Place(int(partition), offset)


def _ranges(offsets: Iterable[int]) -> Iterator[str]:
    first = last = -1
    for offset in offsets:
        if first >= 0 and offset == last + 1:
            last = offset
            continue
        if first >= 0:
            yield _range(first, last)
        first = last = offset
    if first >= 0:
        yield _range(first, last)


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
