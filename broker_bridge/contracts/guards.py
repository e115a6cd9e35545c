"""Limits that hold before and while bytes from outside are decoded (invariant I25, security rule 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DEFAULT_MAX_VALUE_BYTES: Final = 1_048_576
DEFAULT_MAX_ITEMS: Final = 100_000
MAX_DATA_DEPTH: Final = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """What one value may cost.

    ``max_value_bytes`` bounds the framed value. ``max_items`` bounds all array and map entries, and the records of a
    recursive type, of one value together: an array of nulls takes no bytes at all, so bytes alone bound nothing
    (20 million nulls are 5 bytes on the wire and 150 MB in memory), and an entry of one byte can become a dict of 200.
    ``max_depth`` bounds recursion.
    """

    max_value_bytes: int = DEFAULT_MAX_VALUE_BYTES
    max_items: int = DEFAULT_MAX_ITEMS
    max_depth: int = MAX_DATA_DEPTH
