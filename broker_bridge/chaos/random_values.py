"""Random values of a schema: valid, small, without meaning."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from broker_bridge.contracts.schema_tree import Node

DEEPEST = 6
"""Below this, arrays and maps are empty and unions take their first branch: recursive schemas must end somewhere."""
_RECENT_DAYS = 20_000
_DAY_MS = 86_400_000
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def random_value(node: Node, rng: random.Random, depth: int = 0) -> Any:
    """A value of ``node`` as the encoder takes it; logical types as their own."""
    if node.logical is not None:
        return _logical(node, rng)
    if node.kind in _PRIMITIVES:
        return _PRIMITIVES[node.kind](rng)
    match node.kind:
        case "fixed":
            return rng.randbytes(node.size)
        case "enum":
            return rng.choice(node.symbols)
        case "union":
            branches = node.branches[:1] if depth >= DEEPEST else node.branches
            return random_value(rng.choice(branches), rng, depth + 1)
        case "array":
            return [random_value(node.element, rng, depth + 1) for _ in range(_length(rng, depth))]
        case "map":
            return {_text(rng): random_value(node.element, rng, depth + 1) for _ in range(_length(rng, depth))}
        case _:
            return {field.name: random_value(field.type, rng, depth + 1) for field in node.fields}


def _logical(node: Node, rng: random.Random) -> Any:
    if node.logical == "uuid":
        return uuid.UUID(bytes=rng.randbytes(16), version=4)
    if node.logical == "decimal":
        digits = max(1, min(node.precision, 9))
        return Decimal(rng.randrange(10**digits)).scaleb(-node.scale)
    if node.logical == "date":
        return rng.randrange(_RECENT_DAYS)
    scale = 1_000 if str(node.logical).endswith("micros") else 1
    longest = _DAY_MS if str(node.logical).startswith("time-") else _RECENT_DAYS * _DAY_MS
    return rng.randrange(longest) * scale


def _length(rng: random.Random, depth: int) -> int:
    return 0 if depth >= DEEPEST else rng.randrange(4)


def _text(rng: random.Random) -> str:
    return "".join(rng.choice(_LETTERS) for _ in range(rng.randrange(1, 12)))


_PRIMITIVES: dict[str, Callable[[random.Random], Any]] = {
    "null": lambda _rng: None,
    "boolean": lambda rng: rng.random() < 0.5,
    "int": lambda rng: rng.randrange(-1_000, 1_000_000),
    "long": lambda rng: rng.randrange(-1_000, 1_000_000),
    "float": lambda rng: rng.randrange(-1_000, 1_000_000) / 8,
    "double": lambda rng: rng.randrange(-1_000, 1_000_000) / 8,
    "string": _text,
    "bytes": lambda rng: rng.randbytes(8),
}
