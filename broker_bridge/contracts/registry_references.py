"""Schemas of a registry that use types of other subjects (``references``), made self-contained.

Avro knows no references between texts: a type is defined where it is used first, and named from there on. So each type
that another subject defines is written out at its first use, under its full name.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any, Final

from broker_bridge.contracts.registry_client import Reference, RegisteredSchema, RegistryClient
from broker_bridge.contracts.same_schema import full_name
from broker_bridge.contracts.schema_tree import NAMED, PRIMITIVES, load_json
from broker_bridge.errors import ContractError, SchemaUnknownError

MOST_REFERENCES: Final = 200
"""Schemas that one schema may lead to. More is refused: each costs a call."""


async def self_contained(client: RegistryClient, schema: RegisteredSchema) -> str:
    """The text of a schema with every type that other subjects define.

    Raises ContractError where it is no Avro, leads to too many others or cannot be put together, SchemaUnknownError
    where a reference leads nowhere, RegistryError.
    """
    where = f"schema id {schema.schema_id} of {client.where}"
    if schema.kind.upper() != "AVRO":
        raise ContractError(f"the schema is {schema.kind}, and only Avro is read", where=where)
    if not schema.references:
        return schema.text
    definitions: dict[str, tuple[Any, str]] = {}
    waiting, seen = deque(schema.references), set(schema.references)
    try:
        while waiting:
            if len(seen) > MOST_REFERENCES:
                raise ContractError(f"the schema leads to more than {MOST_REFERENCES} others", where=where)
            found = await _referenced(client, waiting.popleft(), where)
            _define(load_json(found.text), "", definitions)
            waiting += [one for one in found.references if one not in seen]
            seen.update(found.references)
        return json.dumps(_Writer(definitions).written(load_json(schema.text), ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ContractError(f"the schema and what it refers to are no valid Avro: {error!r}", where=where) from error


async def _referenced(client: RegistryClient, reference: Reference, where: str) -> RegisteredSchema:
    try:
        return await client.version(reference.subject, reference.version)
    except SchemaUnknownError as error:
        detail = f"it refers to {reference.name}, version {reference.version} of {reference.subject}: {error.detail}"
        raise SchemaUnknownError(detail, where=where) from error


def _define(schema: Any, namespace: str, definitions: dict[str, tuple[Any, str]]) -> None:
    """Note every named type in ``schema``, with the namespace around it. The first of a name stays."""
    if isinstance(schema, list):
        for branch in schema:
            _define(branch, namespace, definitions)
    elif isinstance(schema, dict):
        if schema["type"] in list(NAMED):
            name = full_name(schema["name"], schema.get("namespace", namespace))
            definitions.setdefault(name, (schema, namespace))
            namespace = name.rpartition(".")[0]
        for inner in [schema["type"], schema.get("items"), schema.get("values")]:
            _define(inner, namespace, definitions)
        for field in schema.get("fields", ()):
            _define(field["type"], namespace, definitions)


class _Writer:
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
