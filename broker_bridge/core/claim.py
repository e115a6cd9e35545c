"""Idempotency claims: the vocabulary and, as a table, what becomes of a claim.

A claim says who may work on one idempotency key of one group. It is the state machine of docs/reliability.md; the
store that
keeps claims (Redis by one Lua script a batch, or memory) must answer as ``transition`` here does.
"""

from __future__ import annotations

import enum
import struct
import zlib
from typing import NamedTuple

NO_REPLAY = b"\0" * 8
"""The replay field of a claim request that is not part of a replay."""


class ClaimState(enum.IntEnum):
    """What a stored claim is in."""

    IN_PROGRESS = 1
    RETRY = 2
    """Handed back: by a failed attempt whose retry copy Kafka has acknowledged, or by a worker that let go of it."""
    COMPLETED = 3
    DEAD = 4


class ClaimStatus(enum.IntEnum):
    """The answer to one claim request."""

    GRANTED = 1
    BUSY = 2
    """Another owner's lease runs: ask again after ``retry_after_ms``; no attempt is spent."""
    DONE = 3
    """Completed before: ``result`` has what was stored."""
    CONFLICT = 4
    """The fingerprint differs from the stored one: compare canonical payloads before calling it a conflict."""
    DEAD = 5
    """Dead-lettered before, and this is not a new replay of it."""
    SUPERSEDED = 6
    """A later attempt of this message exists already (this is an old copy): nothing to do."""


class ClaimRequest(NamedTuple):
    """One key to be claimed.

    ``key`` 16 bytes, hash of (namespace, idempotency key). ``nonce`` 8 random bytes, new for each delivery, so that
    a repeated call
    of the same delivery is recognised. ``fingerprint`` 8 bytes, hash of the payload as encoded. ``origin`` 16 bytes:
    source
    coordinates (``pack_origin``). ``attempt`` attempts spent so far, as carried by the record. ``replay`` 8 bytes or
    ``NO_REPLAY``.
    """

    key: bytes
    nonce: bytes
    fingerprint: bytes
    origin: bytes
    attempt: int = 0
    replay: bytes = NO_REPLAY


class ClaimAnswer(NamedTuple):
    """What came of a request. ``token`` is set when granted; ``attempt`` and ``crashes`` are the stored counts."""

    status: ClaimStatus
    token: int = 0
    attempt: int = 0
    crashes: int = 0
    retry_after_ms: int = 0
    result: bytes = b""
    origin: bytes = b""


class Held(NamedTuple):
    """A claim in hand, for renewal. ``attempt`` is written down, so that a crash does not forget attempts (I15)."""

    key: bytes
    nonce: bytes
    token: int
    attempt: int


class SettleKind(enum.IntEnum):
    """How a claim in hand ends."""

    COMPLETE = 1
    RETRY = 2
    """The retry copy is acknowledged by Kafka; ``attempt`` is what that copy carries."""
    RELEASE = 3
    """Let go without having tried (drain, park): the attempt count stays."""
    DEAD = 4
    """The dead letter is acknowledged by Kafka; ``detail`` packs its place (``pack_place``)."""


class Settlement(NamedTuple):
    """One claim to be settled. ``detail`` is the result to store (COMPLETE, ≤ 1 KB) or the dead letter's place
    (DEAD)."""

    key: bytes
    nonce: bytes
    token: int
    kind: SettleKind
    attempt: int = 0
    detail: bytes = b""


class SettleStatus(enum.IntEnum):
    """OK, or STALE: owner or token no longer match, nothing was changed (window W2)."""

    OK = 1
    STALE = 2


class ClaimView(NamedTuple):
    """A stored claim as the audit and the operator see it. Times in ms since the epoch, by the store's clock."""

    state: ClaimState
    token: int
    attempt: int
    crashes: int
    lease_end_ms: int
    settled_at_ms: int
    origin: bytes
    fingerprint: bytes
    replay: bytes
    detail: bytes


def pack_origin(topic: str, partition: int, offset: int) -> bytes:
    """Source coordinates in 16 bytes: CRC-32 of the topic's name, partition, offset, big endian."""
    return struct.pack(">IIQ", zlib.crc32(topic.encode()), partition, offset)


def pack_place(partition: int, offset: int) -> bytes:
    """A dead letter's place in 12 bytes: partition, offset, big endian."""
    return partition.to_bytes(4, "big") + offset.to_bytes(8, "big")


def unpack_place(place: bytes) -> tuple[int, int]:
    """The reverse of ``pack_place``."""
    return int.from_bytes(place[:4], "big"), int.from_bytes(place[4:12], "big")
