"""When two texts are one schema, for whoever registers the same one again.

Stricter than the parsing canonical form, which drops defaults, logical types and docs: a schema with another default is
another version. Blind to what says nothing: blanks, the order of keys, ``namespace`` or a full ``name``, and
``{"type": "string"}`` for ``"string"``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from broker_bridge.contracts.schema_tree import NAMED, PRIMITIVES, load_json

_REMEMBERED = 256


@lru_cache(maxsize=_REMEMBERED)
def sameness(text: str) -> str:
    """Equal for texts of the same schema. ``text`` must be a valid schema."""
    return json.dumps(_form(load_json(text), ""), sort_keys=True)


def full_name(name: str, namespace: str) -> str:
    """A name as Avro resolves it ("Names" in the specification); primitives have no namespace."""
    return name if "." in name or not namespace or name in PRIMITIVES else f"{namespace}.{name}"


def _form(schema: Any, namespace: str) -> Any:
    if isinstance(schema, str):
        return full_name(schema, namespace)
    if isinstance(schema, list):
        return [_form(branch, namespace) for branch in schema]
    kind = schema["type"]
    if not isinstance(kind, str):
        inner = _form(kind, namespace)
        return inner if len(schema) == 1 else {**schema, "type": inner}
    if kind in NAMED:
        return _named(schema, kind, namespace)
    for key in ("items", "values"):
        if key in schema and kind == {"items": "array", "values": "map"}[key]:
            return {**schema, key: _form(schema[key], namespace)}
    kind = full_name(kind, namespace)
    return kind if len(schema) == 1 else {**schema, "type": kind}


def _named(schema: Mapping[str, Any], kind: str, namespace: str) -> dict[str, Any]:
    name = full_name(schema["name"], schema.get("namespace", namespace))
    space = name.rpartition(".")[0]
    form = {**schema, "name": name}
    form.pop("namespace", None)
    if "aliases" in form:
        form["aliases"] = [full_name(alias, space) for alias in form["aliases"]]
    if kind == "record":
        form["fields"] = [{**field, "type": _form(field["type"], space)} for field in schema["fields"]]
    return form
