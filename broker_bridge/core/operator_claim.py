"""Claims that an operator's command holds for a moment, while it changes what the claim of a dead letter says.

A discard makes it COMPLETED; an import makes it name the letter's new place. Both go by the rules of every claim: DEAD
and a new replay id is granted, then settled. Their tags begin with a word of their own, so that a claim which such a
command left behind when it was killed is known from one that a worker has in hand::

    discard   claims ── killed                     the claim is IN_PROGRESS, its lease runs out
    again                       claims ── settles: the tag says that no worker has had the message
"""

from __future__ import annotations

import enum
from hashlib import blake2b
from typing import Final

from broker_bridge import headers as h
from broker_bridge.core.claim import ClaimRequest, ClaimState, ClaimView, pack_origin
from broker_bridge.core.dead_letter import DeadLetter
from broker_bridge.core.identity import edited_from, payload_fingerprint

LEASE_MS: Final = 30_000
"""Longer than Kafka may take to acknowledge what is recorded while the claim is held."""


class Hand(enum.Enum):
    """Which command holds a claim: how its tags begin.

    Tags of replays are hashes: two in 2**32 of them begin so. A command may then take over a claim whose worker died,
    as it would have done a moment before that replay.
    """

    DISCARD = b"disc"
    IMPORT = b"impt"


def operator_tag(hand: Hand, name: str) -> bytes:
    """8 bytes in the replay field of a claim; ``name`` is unique to what is done."""
    return hand.value + blake2b(name.encode(), digest_size=4).digest()


def left_by(claim: ClaimView | None) -> Hand | None:
    """The command of an operator that holds the claim, or was killed while it did; None where none does."""
    if claim is None or claim.state is not ClaimState.IN_PROGRESS:
        return None
    return next((hand for hand in Hand if claim.replay.startswith(hand.value)), None)


def operator_request(letter: DeadLetter, *, key: bytes, nonce: bytes, tag: bytes) -> ClaimRequest:
    """The request for the claim of a letter's message: as a replay of it would claim, so that whoever reads the record
    again compares the same payload."""
    return ClaimRequest(key, nonce, produced_fingerprint(letter), pack_origin(*letter.origin), replay=tag)


def produced_fingerprint(letter: DeadLetter) -> bytes:
    """The payload fingerprint of the letter's value as it was produced, also where a replay had changed it."""
    changed = edited_from({h.EDITED_FROM: letter.edited_from.encode()}) if letter.edited_from else None
    return changed or payload_fingerprint(letter.value)
