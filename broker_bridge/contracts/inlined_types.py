"""A schema with the named types that other texts define, made self-contained.

Avro knows no references between texts: a type is defined where it is used first, and named from there on.
"""

from __future__ import annotations

from typing import Any

from broker_bridge.contracts.same_schema import full_name
from broker_bridge.contracts.schema_tree import NAMED, PRIMITIVES


def define(schema: Any, namespace: str, definitions: dict[str, tuple[Any, str]]) -> None:
    """Note every named type in ``schema``, with the namespace around it. The first of a name stays."""
    if isinstance(schema, list):
        for branch in schema:
            define(branch, namespace, definitions)
    elif isinstance(schema, dict):
        if schema["type"] in list(NAMED):
            name = full_name(schema["name"], schema.get("namespace", namespace))
            definitions.setdefault(name, (schema, namespace))
            namespace = name.rpartition(".")[0]
        for inner in [schema["type"], schema.get("items"), schema.get("values")]:
            define(inner, namespace, definitions)
        for field in schema.get("fields", ()):
            define(field["type"], namespace, definitions)


class TypeWriter:
    """Writes a schema with each type defined at its first use, and named afterwards."""

    def __init__(self, definitions: dict[str, tuple[Any, str]]) -> None:
        self._definitions = definitions
        self._written: set[str] = set()

    def written(self, schema: Any, namespace: str) -> Any:
        if isinstance(schema, list):
            return [self.written(branch, namespace) for branch in schema]
        if isinstance(schema, str):
            return self._named(schema, namespace)
        if schema["type"] in list(NAMED):
            return self._definition(schema, namespace)
        inner = {key: self.written(schema[key], namespace) for key in ("type", "items", "values") if key in schema}
        return {**schema, **inner}

    def _named(self, written: str, namespace: str) -> Any:
        name = full_name(written, namespace)
        if written in PRIMITIVES or written in ("array", "map"):
            return written
        if name in self._definitions and name not in self._written:
            return self._definition(*self._definitions[name])
        return name

    def _definition(self, schema: dict[str, Any], namespace: str) -> Any:
        name = full_name(schema["name"], schema.get("namespace", namespace))
        if name in self._written:
            return name
        self._written.add(name)
        space = name.rpartition(".")[0]
        made = {**schema, "name": name, "namespace": space}  # also where there is none: it must not get that around it
        if schema["type"] == "record":
            made["fields"] = [{**field, "type": self.written(field["type"], space)} for field in schema["fields"]]
        return made
