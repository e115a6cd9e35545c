"""Claiming the messages of dead letters for a command of an operator, a batch at a time."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from typing import Final, NamedTuple

from broker_bridge.clock import Clock
from broker_bridge.core.claim import ClaimAnswer, ClaimStatus, SettleKind, Settlement
from broker_bridge.core.dead_letter import DeadLetter
from broker_bridge.core.operator_claim import LEASE_MS, left_by, operator_request
from broker_bridge.idempotency.base import IdempotencyStore

_ASK_AGAIN_MS: Final = 500


class LetterClaim:
    """A dead letter and a request for the claim of its message; ``answer`` is the last one to it."""

    __slots__ = ("answer", "letter", "nonce", "request")

    def __init__(self, letter: DeadLetter, *, key: bytes, tag: bytes) -> None:
        self.letter = letter
        self.nonce = secrets.token_bytes(8)
        self.request = operator_request(letter, key=key, nonce=self.nonce, tag=tag)
        self.answer = ClaimAnswer(ClaimStatus.BUSY)

    def settlement(self, kind: SettleKind, detail: bytes) -> Settlement:
        """How the claim ends, once it was granted."""
        return Settlement(self.request.key, self.nonce, self.answer.token, kind, detail=detail)


class ClaimRound(NamedTuple):
    """What came of one round of requests: those granted, and those refused for good. Every one is in one round."""

    granted: list[LetterClaim]
    refused: list[LetterClaim]


async def claim_letters(
    wanted: Sequence[LetterClaim], *, store: IdempotencyStore, clock: Clock, group: str
) -> AsyncGenerator[ClaimRound, None]:
    """Claim, in rounds: what is granted is handed out at once, for its lease runs. Claims that another command of an
    operator has, or had when it was killed, are asked for again until its lease has run out; what a worker has is
    refused."""
    until_ms = clock.now_ms() + LEASE_MS + _ASK_AGAIN_MS
    while wanted:
        answers = await store.claim(group, [one.request for one in wanted], lease_ms=LEASE_MS)
        found = ClaimRound([], [])
        for one, answer in zip(wanted, answers, strict=True):
            one.answer = answer
            (found.granted if answer.status is ClaimStatus.GRANTED else found.refused).append(one)
        wanted = await _left_by_operators(found.refused, store, group) if clock.now_ms() < until_ms else []
        again = set(map(id, wanted))
        yield ClaimRound(found.granted, [one for one in found.refused if id(one) not in again])
        if wanted:
            await clock.sleep_ms(_ASK_AGAIN_MS)


async def _left_by_operators(refused: list[LetterClaim], store: IdempotencyStore, group: str) -> list[LetterClaim]:
    busy = [one for one in refused if one.answer.status is ClaimStatus.BUSY]
    if not busy:
        return []
    claims = await store.inspect(group, [one.request.key for one in busy])
    return [one for one, claim in zip(busy, claims, strict=True) if left_by(claim)]
