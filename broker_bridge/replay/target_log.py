"""Reading a target's own log of effects: NDJSON, one object a line.

``key`` (the idempotency key it was given) is required. The rest is optional: ``kind`` (``applied`` by default, or
``repeat``, ``refused``, ``fenced``), ``attempt``, ``crashes``, ``replay_id`` as they were on the request, ``origin``
(``topic/partition/offset``), ``at_ms`` or ``at`` or ``timestamp`` (when it acted: ms since the epoch, or RFC 3339).
Other fields are the target's own business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from broker_bridge.core.reconcile import TargetLine
from broker_bridge.errors import NotFoundError, UsageError
from broker_bridge.headers import parse_position

KINDS = frozenset({"applied", "repeat", "refused", "fenced"})
LONGEST_LINE_BYTES = 65_536
_LATEST_MS = 253_402_300_800_000
"""The end of the year 9999."""


def read_target_log(path: Path) -> Iterator[TargetLine]:
    """The lines of the log in order. A last line without its line end is being written and is left out.

    Raises ``NotFoundError`` or ``UsageError`` that name file and line.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE_BYTES + 1):
                number += 1
                if len(line) > LONGEST_LINE_BYTES:
                    raise UsageError(f"longer than {LONGEST_LINE_BYTES:,} bytes", where=f"{path}:{number}")
                if not line.endswith(b"\n"):
                    return
                if line.strip():
                    yield parse_line(line, where=f"{path}:{number}", number=number)
    except FileNotFoundError as error:
        raise NotFoundError("there is no such log", where=str(path)) from error
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(path)) from error


def parse_line(line: bytes, *, where: str, number: int) -> TargetLine:
    """One line read. Raises ``UsageError`` that names ``where``."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError("not a line of JSON", where=where) from error
    if not isinstance(found, dict) or not isinstance(found.get("key"), str) or not found["key"]:
        raise UsageError('not an object with a "key" (the idempotency key)', where=where)
    kind = found.get("kind", "applied")
    if not isinstance(kind, str) or kind not in KINDS:
        raise UsageError(f"unknown kind {kind!r}", where=where, remedy=f"one of: {', '.join(sorted(KINDS))}")
    origin = found.get("origin")
    return TargetLine(
        number=number,
        key=found["key"],
        kind=kind,
        attempt=_number(found, "attempt", 1, where),
        crashes=_number(found, "crashes", 0, where),
        replay_id=found.get("replay_id") or None,
        origin=parse_position(origin) if isinstance(origin, str) else None,
        at_ms=_moment_ms(found, where),
    )


def _number(found: Mapping[str, Any], name: str, default: int, where: str) -> int:
    value = found.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f'"{name}" is not a whole number', where=where)
    return value


def _moment_ms(found: Mapping[str, Any], where: str) -> int | None:
    name = next((name for name in ("at_ms", "at", "timestamp") if found.get(name) is not None), None)
    if name is None:
        return None
    written = found[name]
    try:
        if isinstance(written, str):
            moment = datetime.fromisoformat(written)
            return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
        if not isinstance(written, bool) and isinstance(written, int | float) and 0 <= written < _LATEST_MS:
            return int(written)
    except (ValueError, OverflowError):
        pass
    raise UsageError(f'"{name}" is no time', where=where, remedy="ms since the epoch, or RFC 3339 text")
