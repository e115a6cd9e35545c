"""Where claims are kept. Two implementations pass one contract suite: ``idempotency.redis`` and
``idempotency.memory``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from broker_bridge.core.claim import ClaimAnswer, ClaimRequest, ClaimView, Held, Settlement, SettleStatus


class IdempotencyStore(Protocol):
    """Claims of every group. One call is one round trip whatever the batch size.

    Every call raises ``StoreError`` (retriable) when the store is away; the effect of that call is then unknown, and
    the same call with the same nonces may be repeated safely.
    """

    async def start(self) -> None:
        """Connect and check that the store is fit for the job (I26: no eviction). Raises ``StoreError``,
        ``UnsafeSettingsError``, or ``ClaimUnreadableError`` when the epoch's place holds something else."""

    async def claim(self, group: str, requests: Sequence[ClaimRequest], *, lease_ms: int) -> list[ClaimAnswer]:
        """Claim a batch, in order; a claim granted holds for ``lease_ms`` by the store's own clock."""

    async def renew(self, group: str, held: Sequence[Held], *, lease_ms: int) -> list[bool]:
        """Extend leases and write down attempts and tries; false where the claim is no longer ours."""

    async def settle(self, group: str, settlements: Sequence[Settlement], *, ttl_ms: int) -> list[SettleStatus]:
        """End a batch of claims; settled ones are kept for ``ttl_ms`` from now. Repeating a settlement that was
        applied answers OK."""

    async def inspect(self, group: str, keys: Sequence[bytes]) -> list[ClaimView | None]:
        """The stored claims, None where there is none. Changes nothing."""

    async def advance(self, group: str, versions: Mapping[bytes, int], *, ttl_ms: int) -> None:
        """Keep the newest completed version of record keys (``core.identity.version_key``), for ``ttl_ms`` from now:
        what is kept never falls. Repeating a call changes nothing."""

    async def versions(self, group: str, keys: Sequence[bytes]) -> list[int | None]:
        """The newest completed version under each key, None where none is kept. Changes nothing."""

    async def tally(self, name: str, first: int, again: int, *, window_ms: int) -> tuple[int, int]:
        """Count ``first`` attempts and ``again`` further ones under ``name``, and answer what everybody counted there
        within ``window_ms`` by the store's own clock, these included, in whole seconds (so up to one second more).

        Nothing is counted twice: the call is made once. Where it raises, these counts may or may not be in.
        """

    def losses(self) -> int:
        """How often this object has seen that claims were lost (window W3, fault row 39): FLUSHALL, an empty or older
        data set after a restart, a failover to a replica that is empty or from before an earlier loss.

        Seen by ``start`` and ``claim``, which answer nevertheless; look after each, and remember what you saw. Every
        store object counts each loss once, whatever number of its calls meet it; losses between two calls count as one.
        Where the count has grown, whatever was claimed or settled before may be granted again.

        Not seen: a loss that leaves the epoch, such as a failover to a replica (or an append-only file cut short) that
        has the epoch and lacks the latest claims; a loss while no store object lived to remember the epoch.
        """

    async def stop(self) -> None:
        """Disconnect. Idempotent."""
