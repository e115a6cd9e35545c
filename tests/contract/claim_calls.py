"""Short ways to call a store, for its checks."""

from __future__ import annotations

import hashlib
import os

from claim_labs import Lab

from broker_bridge.core.claim import (
    ClaimAnswer,
    ClaimRequest,
    ClaimStatus,
    ClaimView,
    Held,
    SettleKind,
    Settlement,
    SettleStatus,
    pack_origin,
)

LONG_MS = 60_000
SHORT_MS = 25
DAY_MS = 86_400_000
GRANTED, BUSY, DONE, CONFLICT = ClaimStatus.GRANTED, ClaimStatus.BUSY, ClaimStatus.DONE, ClaimStatus.CONFLICT
OK, STALE = SettleStatus.OK, SettleStatus.STALE


def key(name: object) -> bytes:
    return hashlib.blake2b(str(name).encode(), digest_size=16).digest()


def a_request(name: object = "order-1", *, attempt: int = 0, replay: bytes = b"\0" * 8) -> ClaimRequest:
    """A delivery of the message ``name``: the same key, payload and place each time, a nonce of its own."""
    payload = hashlib.blake2b(b"payload" + str(name).encode(), digest_size=8).digest()
    return ClaimRequest(key(name), os.urandom(8), payload, pack_origin("orders", 3, 42), attempt, replay)


async def claim(lab: Lab, request: ClaimRequest, lease_ms: int = LONG_MS) -> ClaimAnswer:
    (answer,) = await lab.store.claim(lab.group, [request], lease_ms=lease_ms)
    return answer


async def granted(lab: Lab, request: ClaimRequest, lease_ms: int = LONG_MS) -> int:
    answer = await claim(lab, request, lease_ms)
    assert answer.status is GRANTED, answer
    return answer.token


async def settle(
    lab: Lab,
    request: ClaimRequest,
    token: int,
    kind: SettleKind,
    *,
    attempt: int = 0,
    detail: bytes = b"",
    tries: int = 0,
    ttl_ms: int = DAY_MS,
) -> SettleStatus:
    settlement = Settlement(request.key, request.nonce, token, kind, attempt, detail, tries)
    (status,) = await lab.store.settle(lab.group, [settlement], ttl_ms=ttl_ms)
    return status


async def ended(
    lab: Lab, request: ClaimRequest, kind: SettleKind, *, attempt: int = 0, detail: bytes = b"", tries: int = 0
) -> int:
    token = await granted(lab, request)
    assert await settle(lab, request, token, kind, attempt=attempt, detail=detail, tries=tries) is OK
    return token


async def renew(
    lab: Lab, request: ClaimRequest, token: int, *, attempt: int = 0, tries: int = 0, lease_ms: int = LONG_MS
) -> bool:
    held = Held(request.key, request.nonce, token, attempt, tries)
    (extended,) = await lab.store.renew(lab.group, [held], lease_ms=lease_ms)
    return extended


async def view(lab: Lab, request: ClaimRequest) -> ClaimView:
    (found,) = await lab.store.inspect(lab.group, [request.key])
    assert found is not None
    return found


async def lease_over(lab: Lab, request: ClaimRequest) -> None:
    """Wait out a lease of ``SHORT_MS``."""
    end_ms = (await view(lab, request)).lease_end_ms
    assert end_ms <= await lab.now_ms() + SHORT_MS, "the lease is longer than was asked for"
    await lab.wait_until(end_ms)
