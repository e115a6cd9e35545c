"""The claims that one process knows of, bounded: what is left to decide by while the store is away.

The rules are those of every store (``core.claim_rules``). The oldest are forgotten first, so what is remembered is what
this process wrote last.
"""

from __future__ import annotations

from broker_bridge.clock import Clock
from broker_bridge.core.claim import (
    ClaimAnswer,
    ClaimRequest,
    ClaimState,
    ClaimStatus,
    ClaimView,
    Held,
    Settlement,
    SettleStatus,
    StoredClaim,
)
from broker_bridge.core.claim_rules import apply_claim, apply_renew, apply_settle

NOBODY = b"\0" * 8
"""The nonce noted for an owner of whom only the lease is known."""


class LocalClaims:
    """Claims in memory, at most ``limit`` of them; each is kept for its time to live at the longest.

    A claim in progress is kept for ``claim_ttl_ms`` after its last claim or renewal. About 360 bytes a claim, key and
    place in the table included; noting a grant and its end took 13 µs on one of two shared cores.
    """

    def __init__(self, clock: Clock, *, limit: int, claim_ttl_ms: int) -> None:
        self._clock = clock
        self._limit = limit
        self._claim_ttl_ms = claim_ttl_ms
        self._kept: dict[tuple[str, bytes], tuple[bytes, int]] = {}  # → (claim as encoded, expires at, in ms)

    def __len__(self) -> int:
        return len(self._kept)

    def claim(
        self, group: str, request: ClaimRequest, *, lease_ms: int, floor: int
    ) -> tuple[ClaimAnswer, bytes | None]:
        """The answer, and the nonce of the owner that the claim was taken over from, if it was."""
        before = self.read(group, request.key)
        answer, after = apply_claim(before, request, now_us=self._clock.now_ms() * 1000, lease_ms=lease_ms, floor=floor)
        if after is None:
            return answer, None
        self.note(group, request.key, after, ttl_ms=max(self._claim_ttl_ms, lease_ms))
        taken = before is not None and before.state is ClaimState.IN_PROGRESS and before.nonce != request.nonce
        return answer, before.nonce if taken and before else None

    def granted(self, group: str, request: ClaimRequest, answer: ClaimAnswer, *, lease_ms: int) -> None:
        """Note what the store has granted.

        A claim that is asked for again by its holder counts attempts in place; its copy is the one it was asked for
        with. Otherwise that copy, read again, would pass for an older one, and be dropped.
        """
        known = self.read(group, request.key)
        again = known is not None and known.state is ClaimState.IN_PROGRESS and known.nonce == request.nonce
        stored = StoredClaim(
            state=ClaimState.IN_PROGRESS,
            attempt=answer.attempt,
            copy_attempt=known.copy_attempt if known is not None and again else request.attempt,
            crashes=answer.crashes,
            tries=answer.tries,
            nonce=request.nonce,
            token=answer.token,
            lease_end_ms=self._clock.now_ms() + lease_ms,
            fingerprint=request.fingerprint,
            replay=request.replay,
            origin=request.origin,
            settled_at_ms=0,
            detail=b"",
        )
        self.note(group, request.key, stored, ttl_ms=max(self._claim_ttl_ms, lease_ms))

    def refused(self, group: str, request: ClaimRequest, answer: ClaimAnswer) -> None:
        """Note whom the store has refused a request for: somebody who is at it, or who has done it."""
        if answer.status not in (ClaimStatus.BUSY, ClaimStatus.DONE):
            return
        busy = answer.status is ClaimStatus.BUSY
        known = self.read(group, request.key)
        if known is not None and known.nonce != request.nonce:
            return  # another delivery of this process holds or has settled it: what it noted says more
        stored = StoredClaim(
            state=ClaimState.IN_PROGRESS if busy else ClaimState.COMPLETED,
            attempt=answer.attempt,
            copy_attempt=0,
            crashes=answer.crashes,
            tries=answer.tries,
            nonce=NOBODY,
            token=0,
            lease_end_ms=self._clock.now_ms() + answer.retry_after_ms,
            fingerprint=request.fingerprint,
            replay=request.replay,
            origin=answer.origin or request.origin,
            settled_at_ms=answer.settled_at_ms,
            detail=answer.result,
        )
        self.note(group, request.key, stored, ttl_ms=self._claim_ttl_ms)

    def renew(self, group: str, held: Held, *, lease_ms: int) -> bool | None:
        """Whether the claim is still its holder's; None where nothing is known of it (any more)."""
        before = self.read(group, held.key)
        if before is None:
            return None
        after = apply_renew(before, held, now_us=self._clock.now_ms() * 1000, lease_ms=lease_ms)
        if after is None:
            return False
        self.note(group, held.key, after, ttl_ms=max(self._claim_ttl_ms, lease_ms))
        return True

    def settle(self, group: str, settlement: Settlement, *, ttl_ms: int) -> SettleStatus | None:
        """End a claim; None where nothing is known of it (any more)."""
        before = self.read(group, settlement.key)
        if before is None:
            return None
        status, after = apply_settle(before, settlement, now_us=self._clock.now_ms() * 1000)
        if after is not None:
            self.note(group, settlement.key, after, ttl_ms=ttl_ms)
        return status

    def forget(self, group: str, key: bytes, nonce: bytes) -> None:
        """``nonce`` is not the owner any more; who is, is not known."""
        known = self.read(group, key)
        if known is not None and known.nonce == nonce:
            del self._kept[group, key]

    def view(self, group: str, key: bytes) -> ClaimView | None:
        """The claim as the engine may look at it."""
        stored = self.read(group, key)
        return stored.view() if stored else None

    def read(self, group: str, key: bytes) -> StoredClaim | None:
        """What is known of a key."""
        value, expires_ms = self._kept.get((group, key), (b"", 0))
        return StoredClaim.decode(value) if value and self._clock.now_ms() < expires_ms else None

    def note(self, group: str, key: bytes, stored: StoredClaim, *, ttl_ms: int) -> None:
        """Remember, as the newest; the oldest makes room."""
        self._kept.pop((group, key), None)
        self._kept[group, key] = (stored.encode(), self._clock.now_ms() + ttl_ms)
        if len(self._kept) > self._limit:
            del self._kept[next(iter(self._kept))]
