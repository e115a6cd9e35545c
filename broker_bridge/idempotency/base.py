"""Where claims are kept. Two implementations pass one contract suite: ``idempotency.redis`` and
``idempotency.memory``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from broker_bridge.core.claim import ClaimAnswer, ClaimRequest, ClaimView, Held, Settlement, SettleStatus


class IdempotencyStore(Protocol):
    """Claims of every group. One call is one round trip whatever the batch size.

    Every call raises ``StoreError`` (retriable) when the store is away; the effect of that call is then unknown, and
    the same call
    with the same nonces may be repeated safely.
    """

    async def start(self) -> None:
        """Connect and check that the store is fit for the job (I26: no eviction). Raises ``StoreError`` or
        ``UnsafeSettingsError``."""

    async def claim(self, group: str, requests: Sequence[ClaimRequest], *, lease_ms: int) -> list[ClaimAnswer]:
        """Claim a batch, in order; a claim granted holds for ``lease_ms`` by the store's own clock."""

    async def renew(self, group: str, held: Sequence[Held], *, lease_ms: int) -> list[bool]:
        """Extend leases and write down attempts and tries; false where the claim is no longer ours."""

    async def settle(self, group: str, settlements: Sequence[Settlement], *, ttl_ms: int) -> list[SettleStatus]:
        """End a batch of claims; settled ones are kept for ``ttl_ms`` from now. Repeating a settlement that was
        applied answers OK."""

    async def inspect(self, group: str, keys: Sequence[bytes]) -> list[ClaimView | None]:
        """The stored claims, None where there is none. Changes nothing."""

    async def stop(self) -> None:
        """Disconnect. Idempotent."""
