"""Reading a target's own log of effects: NDJSON, one object a line.

``key`` (the idempotency key it was given) is required. The rest is optional: ``kind`` (``applied`` by default, or
``repeat``, ``refused``, ``fenced``), ``attempt``, ``crashes``, ``replay_id`` as they were on the request, ``origin``
(``topic/partition/offset``). Other fields are the target's own business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from broker_bridge.core.reconcile import TargetLine
from broker_bridge.errors import NotFoundError, UsageError
from broker_bridge.headers import parse_position

KINDS = frozenset({"applied", "repeat", "refused", "fenced"})


def read_target_log(path: Path) -> Iterator[TargetLine]:
    """The lines of the log in order. A last line without its line end is being written and is left out.

    Raises ``NotFoundError`` or ``UsageError`` that name file and line.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return
                if line.strip():
                    yield _parse(line, where=f"{path}:{number}", number=number)
    except FileNotFoundError as error:
        raise NotFoundError("there is no such log", where=str(path)) from error
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(path)) from error


def _parse(line: bytes, *, where: str, number: int) -> TargetLine:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError("not a line of JSON", where=where) from error
    if not isinstance(found, dict) or not isinstance(found.get("key"), str) or not found["key"]:
        raise UsageError('not an object with a "key" (the idempotency key)', where=where)
    kind = found.get("kind", "applied")
    if kind not in KINDS:
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
    )


def _number(found: dict[str, object], name: str, default: int, where: str) -> int:
    value = found.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f'"{name}" is not a whole number', where=where)
    return value
