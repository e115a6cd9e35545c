"""Durations as people write them: ``250ms``, ``2s``, ``5m``, ``12h``, ``7d``; held as whole milliseconds."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
FORMS: Final = '"250ms", "2s", "5m", "12h", "7d", or a whole number of milliseconds'

_WRITTEN = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*(ms|s|m|h|d)", re.ASCII)
LONGEST_MS: Final = 100 * 365 * UNITS_MS["d"]
"""A century: beyond it a duration is a slip of the pen, and Kafka's and Redis' own limits come near."""


def parse_duration_ms(written: str | int) -> int:
    """Milliseconds of a written duration. Raises ``ValueError`` that says what is wrong with it."""
    if isinstance(written, bool) or not isinstance(written, str | int):
        raise ValueError(f"must be a duration ({FORMS})")
    duration_ms = Decimal(written) if isinstance(written, int) else _written_ms(written)
    if duration_ms != int(duration_ms):
        raise ValueError("must be a whole number of milliseconds")
    if not 0 <= duration_ms <= LONGEST_MS:
        raise ValueError("must be between 0 and 100 years")
    return int(duration_ms)


def _written_ms(text: str) -> Decimal:
    match = _WRITTEN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"must be a duration ({FORMS})")
    return Decimal(match[1]) * UNITS_MS[match[2]]


def format_duration(duration_ms: int) -> str:
    """The shortest exact way to write it in one unit: 2000 is ``2s``, 90000 is ``90s``, 0 is ``0ms``.

    ``parse_duration_ms`` reads it back to the same number, so lane names can be made of it. Raises ``ValueError``
    below zero.
    """
    if duration_ms < 0:
        raise ValueError(f"a duration cannot be negative: {duration_ms} ms")
    if duration_ms == 0:
        return "0ms"
    unit, size = next((u, s) for u, s in reversed(UNITS_MS.items()) if duration_ms % s == 0)
    return f"{duration_ms // size}{unit}"
