"""Keys of claims: what of a message goes into its 16-byte claim key, its payload fingerprint and its replay tag."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

from broker_bridge.core.claim import NO_REPLAY

_EMPTY = b"\xff" * 8


def claim_key(idempotency_key: str, *, namespace: str = "") -> bytes:
    """16 bytes: BLAKE2b of the namespace (the route's source topic) and the idempotency key, length-prefixed so that
    they cannot run together."""
    return blake2b(_start(namespace) + idempotency_key.encode(), digest_size=16).digest()


@lru_cache(maxsize=1_024)
def _start(namespace: str) -> bytes:
    space = namespace.encode()
    return len(space).to_bytes(4, "big") + space


def payload_fingerprint(value: bytes | None) -> bytes:
    """8 bytes: BLAKE2b of the encoded value. Equal proves the same payload; unequal proves nothing by itself."""
    return _EMPTY if value is None else blake2b(value, digest_size=8).digest()


def replay_tag(replay_id: str | None) -> bytes:
    """8 bytes that stand for a replay in a claim; ``NO_REPLAY`` without one."""
    return NO_REPLAY if replay_id is None else blake2b(replay_id.encode(), digest_size=8).digest()
