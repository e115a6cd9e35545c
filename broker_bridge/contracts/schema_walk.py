"""Every place of a schema's text, for rules that look at what a tree no longer has: docs, waivers, ways of writing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from broker_bridge.contracts.schema_tree import NAMED


@dataclass(frozen=True, slots=True)
class Spot:
    """One place. ``kind`` is record, enum, fixed, field, union, array, map, or ``scalar`` for ``{"type": "long", …}``.

    ``raw`` is the JSON there, ``path`` its JSON pointer, ``field`` the field for people, ``name`` the full name of a
    named type or the name of a field, ``above`` the place around it.
    """

    kind: str
    raw: Any
    path: str
    field: str
    name: str = ""
    above: Spot | None = None


def spots(schema: Any) -> Iterator[Spot]:
    """All places of a valid schema, the outer before the inner."""
    yield from _type(schema, "", "", "", None)


def _type(schema: Any, path: str, field: str, namespace: str, above: Spot | None) -> Iterator[Spot]:
    if isinstance(schema, list):
        union = Spot("union", schema, path or "/", field, above=above)
        yield union
        for number, branch in enumerate(schema):
            yield from _type(branch, f"{path}/{number}", field, namespace, union)
    elif isinstance(schema, dict):
        kind = schema["type"]
        if isinstance(kind, dict | list):
            yield from _type(kind, f"{path}/type", field, namespace, above)
        elif kind in NAMED:
            yield from _named(schema, path, field, namespace, above)
        elif kind in ("array", "map"):
            key = "items" if kind == "array" else "values"
            spot = Spot(kind, schema, path or "/", field, above=above)
            yield spot
            yield from _type(schema[key], f"{path}/{key}", f"{field}[]", namespace, spot)
        else:
            yield Spot("scalar", schema, path or "/", field, above=above)


def _named(schema: dict[str, Any], path: str, field: str, namespace: str, above: Spot | None) -> Iterator[Spot]:
    name, space = schema["name"], schema.get("namespace", namespace)
    full = name if "." in name or not space else f"{space}.{name}"
    spot = Spot(schema["type"], schema, path or "/", field, full, above)
    yield spot
    for number, one in enumerate(schema.get("fields", ()) if spot.kind == "record" else ()):
        below, place = f"{path}/fields/{number}", f"{field}.{one['name']}".removeprefix(".")
        inner = Spot("field", one, below, place, one["name"], spot)
        yield inner
        yield from _type(one["type"], f"{below}/type", place, full.rpartition(".")[0], inner)
