"""Sizes as people write them: ``512B``, ``64KiB``, ``1MiB``; held as whole bytes."""

from __future__ import annotations

import re
from typing import Final

UNITS_BYTES: Final = {
    "B": 1,
    "kB": 1_000,
    "KiB": 1 << 10,
    "MB": 1_000_000,
    "MiB": 1 << 20,
    "GB": 1_000_000_000,
    "GiB": 1 << 30,
}
FORMS: Final = '"64KiB", "1MiB", "2GiB", or a whole number of bytes'

_WRITTEN = re.compile(r"(\d{1,15})\s*(B|kB|KiB|MB|MiB|GB|GiB)", re.ASCII)


def parse_size_bytes(written: str | int) -> int:
    """Bytes of a written size. Raises ``ValueError`` that says what is wrong with it."""
    if isinstance(written, int) and not isinstance(written, bool):
        if written < 0:
            raise ValueError("must not be negative")
        return written
    match = _WRITTEN.fullmatch(written.strip()) if isinstance(written, str) else None
    if match is None:
        raise ValueError(f"must be a size ({FORMS})")
    return int(match[1]) * UNITS_BYTES[match[2]]


def format_size(size_bytes: int) -> str:
    """The size in the largest binary unit that divides it: 65536 is ``64KiB``. Raises ``ValueError`` below zero."""
    if size_bytes < 0:
        raise ValueError(f"a size cannot be negative: {size_bytes} bytes")
    for unit in ("GiB", "MiB", "KiB"):
        if size_bytes and size_bytes % UNITS_BYTES[unit] == 0:
            return f"{size_bytes // UNITS_BYTES[unit]}{unit}"
    return f"{size_bytes}B"
