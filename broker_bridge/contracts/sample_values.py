"""A few values of any type, which between them use every branch, symbol, bound and sign: for checks by example."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from broker_bridge.contracts.schema_tree import Node
from broker_bridge.contracts.wire import INT_MAX, INT_MIN, LONG_MAX, LONG_MIN

_MAX_DEPTH: Final = 4
"""Records in records. A recursive type ends here, with an empty list or null."""

_PLAIN: Final[dict[str, list[Any]]] = {
    "null": [None],
    "boolean": [True, False],
    "int": [0, INT_MIN, INT_MAX],
    "long": [0, LONG_MIN, LONG_MAX],
    "float": [0.0, -1.5],
    "double": [0.0, -1.5, 1e300],
    "bytes": [b"", b"\x00\xff"],
    "string": ["a", "", "ü€😀"],
}
_LOGICAL: Final[dict[str, list[Any]]] = {
    "uuid": [UUID("12345678-1234-5678-1234-567812345678")],
    "date": [date(1970, 1, 1), date(2026, 2, 28)],
    "time-millis": [time(0, 0), time(23, 59, 59, 999_000)],
    "time-micros": [time(0, 0), time(23, 59, 59, 999_999)],
    "timestamp-millis": [datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 2, 28, 23, 59, 59, 999_000, tzinfo=UTC)],
    "timestamp-micros": [datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC)],
    "local-timestamp-millis": [datetime(1970, 1, 1), datetime(2026, 2, 28, 23, 59, 59, 999_000)],  # noqa: DTZ001
    "local-timestamp-micros": [datetime(1970, 1, 1), datetime(2026, 2, 28, 23, 59, 59, 999_999)],  # noqa: DTZ001
}


def samples(node: Node, depth: int = 0) -> list[Any]:
    """Values of a type in PYTHON form, at least one, unless it is a record that cannot end."""
    if node.logical == "decimal":
        return [Decimal(sign + "9" * node.precision).scaleb(-node.scale) for sign in ("", "-")]
    if node.logical in _LOGICAL:
        return _LOGICAL[node.logical]
    match node.kind:
        case "union":
            return [value for branch in node.branches for value in samples(branch, depth)]
        case "array":
            return [[], samples(node.element, depth)]
        case "map":
            return [{}, {f"k{number}": value for number, value in enumerate(samples(node.element, depth))}]
        case "enum":
            return list(node.symbols)
        case "fixed":
            return [bytes(node.size), b"\xff" * node.size]
        case "record":
            return _records(node, depth + 1)
        case kind:
            return _PLAIN[kind]


def _records(node: Node, depth: int) -> list[dict[str, Any]]:
    """Each field through all its values, the others at one of theirs."""
    if depth > _MAX_DEPTH:
        return []
    choices = {field.name: samples(field.type, depth) for field in node.fields}
    if not all(choices.values()):
        return []
    most = max((len(values) for values in choices.values()), default=1)
    return [{name: values[number % len(values)] for name, values in choices.items()} for number in range(most)]
