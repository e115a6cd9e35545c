"""Which partition a key belongs to, as every Kafka client of the Java family answers it.

Source: MurmurHash2 (Austin Appleby) with the seed that Kafka's default partitioner uses; the sign bit is cleared before
the remainder is taken. The golden vectors state the expected partitions, so that Go, Rust and Python are held to one
answer.
"""

from __future__ import annotations

import struct
from functools import lru_cache

_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """The 32-bit hash of ``data``, unsigned."""
    length = len(data)
    whole = length & ~3
    hashed = _SEED ^ length
    for (word,) in struct.iter_unpack("<I", data[:whole]):
        word = (word * _MULTIPLIER) & _MASK
        word ^= word >> 24
        hashed = (((hashed * _MULTIPLIER) & _MASK) ^ (word * _MULTIPLIER)) & _MASK
    if length != whole:
        hashed ^= int.from_bytes(data[whole:], "little")
        hashed = (hashed * _MULTIPLIER) & _MASK
    hashed ^= hashed >> 13
    hashed = (hashed * _MULTIPLIER) & _MASK
    return hashed ^ (hashed >> 15)


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of ``key`` among ``partitions``. Recent answers are kept: keys repeat, hashing is slow."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
