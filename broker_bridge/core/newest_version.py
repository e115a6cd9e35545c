"""Which version of a record key was completed last, and whether a replay would go behind it (invariant I13).

Only routes whose contract has a version field keep it. It is written down after the effect and before the claim is
settled; messages of one key never overlap, so whoever asks when its turn has come is told of all before it::

    newer message   effect ── version kept ── claim settled ── key free
    replayed one                                               its turn: asks, is older, is turned away
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable

MIN_VERSION, MAX_VERSION = -(2**63), 2**63 - 1
"""What an Avro long holds."""

_PACKED = struct.Struct(">Q")


class ReplayOrder(enum.StrEnum):
    """What to do with a letter whose record key has a newer completed message."""

    SKIP_STALE = "skip-stale"
    """Send it, and have the worker turn it away where its version is lower than the newest completed."""
    HOLD = "hold"
    """Leave it where it is, for somebody to decide."""
    AS_IS = "as-is"
    """Send it all the same."""


def is_stale(version: int | None, newest: int | None) -> bool:
    """Whether a replayed message is behind what was completed. Without a version nobody can tell, and it is not."""
    return version is not None and newest is not None and version < newest


def pack_versions(versions: Iterable[int]) -> bytes:
    """8 bytes each, big endian, the sign bit flipped: they sort as the numbers do."""
    return b"".join([_PACKED.pack(version - MIN_VERSION) for version in versions])


def unpack_version(packed: bytes | None) -> int | None:
    """The reverse of one; None for what is none."""
    if packed is None or len(packed) != _PACKED.size:
        return None
    return int(_PACKED.unpack(packed)[0]) + MIN_VERSION
