"""Claims that an operator's command holds for a moment, while it changes what the claim of a dead letter says.

A discard makes it COMPLETED; an import makes it name the letter's new place. Both go by the rules of every claim: DEAD
and a new replay id is granted, then settled. Their tags begin with a word of their own, so that a claim which such a
command left behind when it was killed is known from one that a worker has in hand::

    discard   claims ── killed                     the claim is IN_PROGRESS, its lease runs out
    again                       claims ── settles: the tag says that no worker has had the message
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from broker_bridge import headers as h
from broker_bridge.core.claim import ClaimRequest, ClaimState, ClaimView, pack_origin
from broker_bridge.core.dead_letter import DeadLetter
from broker_bridge.core.identity import edited_from, payload_fingerprint

LEASE_MS: Final = 30_000
"""Longer than Kafka may take to acknowledge what is recorded while the claim is held."""
_TAG: Final = b"oper"
"""Tags of replays are hashes: one in 2**32 of them begins so, and then a discard may take over a claim whose worker
died, as it would have done a moment before that replay."""


def operator_tag(name: str) -> bytes:
    """8 bytes in the replay field of a claim; ``name`` is unique to what is done."""
    return _TAG + blake2b(name.encode(), digest_size=4).digest()


def is_left_by_operator(claim: ClaimView | None) -> bool:
    """Whether an operator's command holds the claim, or was killed while it did."""
    return claim is not None and claim.state is ClaimState.IN_PROGRESS and claim.replay.startswith(_TAG)


def operator_request(letter: DeadLetter, *, key: bytes, nonce: bytes, tag: bytes) -> ClaimRequest:
    """The request for the claim of a letter's message: as a replay of it would claim, so that whoever reads the record
    again compares the same payload."""
    changed = edited_from({h.EDITED_FROM: letter.edited_from.encode()}) if letter.edited_from else None
    return ClaimRequest(
        key, nonce, changed or payload_fingerprint(letter.value), pack_origin(*letter.origin), replay=tag
    )
