"""Schemas of a registry that use types of other subjects (``references``), made self-contained.

Each type that another subject defines is written out at its first use, under its full name.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any, Final

from broker_bridge.contracts.inlined_types import TypeWriter, define
from broker_bridge.contracts.registry_client import Reference, RegisteredSchema, RegistryClient
from broker_bridge.contracts.schema_tree import load_json
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
            define(load_json(found.text), "", definitions)
            waiting += [one for one in found.references if one not in seen]
            seen.update(found.references)
        return json.dumps(TypeWriter(definitions).written(load_json(schema.text), ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ContractError(f"the schema and what it refers to are no valid Avro: {error!r}", where=where) from error


async def _referenced(client: RegistryClient, reference: Reference, where: str) -> RegisteredSchema:
    try:
        return await client.version(reference.subject, reference.version)
    except SchemaUnknownError as error:
        detail = f"it refers to {reference.name}, version {reference.version} of {reference.subject}: {error.detail}"
        raise SchemaUnknownError(detail, where=where) from error
