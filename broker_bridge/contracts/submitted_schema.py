"""A schema that a registry's client sends, as the text of the file it would become.

Types that the client refers to in other subjects are written into it: a file of the folder stands alone, and so every
language reads it.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from broker_bridge.contracts import registry_values as api
from broker_bridge.contracts.contract import Contract, parse_contract
from broker_bridge.contracts.directory import SchemaDirectory
from broker_bridge.contracts.inlined_types import TypeWriter, define
from broker_bridge.contracts.registry_values import Request, refuse
from broker_bridge.contracts.schema_tree import load_json
from broker_bridge.errors import ContractError, SchemaUnknownError

SUBJECT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,248}")
"""Names of topics and of Avro types, and what strategies make of them; each is also the name of a folder."""
MAX_JSON_DEPTH: Final = 200
"""Of a schema's text, properties nobody knows included: what is accepted here, every later load must get through."""
_ABSENT: Final = (None, 0, -1)


def submitted_text(request: Request, subject: str, directory: SchemaDirectory) -> str:
    """The body's schema, valid, self-contained and laid out as files are. Raises Refused."""
    require_subject(subject)
    given = request.fields()
    _require_known_kinds(given)
    schema = given.get("schema")
    if not isinstance(schema, str) or not schema.strip():
        refuse(api.SCHEMA_INVALID, "the body has no schema: it is a text of JSON under the key 'schema'")
    try:
        if given.get("references"):
            schema = _self_contained(schema, given["references"], directory)
        parse_contract(schema, subject=subject)
        return _laid_out(schema)
    except ContractError as error:
        refuse(api.SCHEMA_INVALID, f"the schema is not valid: {error}")


def require_subject(subject: str) -> None:
    """Raise Refused where a subject cannot be a folder."""
    if not SUBJECT.fullmatch(subject):
        refuse(
            api.SUBJECT_INVALID,
            f"the subject {subject!r} is no name of a folder here: letters, digits, '.', '_' and '-', at most 249",
        )


def _require_known_kinds(given: dict[str, Any]) -> None:
    kind = given.get("schemaType") or "AVRO"
    if kind != "AVRO":
        refuse(api.SCHEMA_INVALID, f"schemaType is {kind!r}: this directory holds AVRO only")
    for name in ("metadata", "ruleSet"):
        if given.get(name):
            refuse(api.SCHEMA_INVALID, f"{name} is not kept here: register the schema without it")
    if any(given.get(name) not in _ABSENT for name in ("id", "version")):
        refuse(api.NOT_PERMITTED, "the directory gives ids and versions itself: leave id and version out")


def _self_contained(schema: str, references: Any, directory: SchemaDirectory) -> str:
    definitions: dict[str, tuple[Any, str]] = {}
    try:
        for reference in references:
            define(load_json(_referenced(reference, directory).text), "", definitions)
            if reference["name"] not in definitions:
                refuse(api.SCHEMA_INVALID, f"{reference['subject']} defines no type called {reference['name']!r}")
        return json.dumps(TypeWriter(definitions).written(load_json(schema), ""))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        refuse(api.SCHEMA_INVALID, f"the schema and what it refers to are no valid Avro: {error!r}")


def _referenced(reference: Any, directory: SchemaDirectory) -> Contract:
    """The version that ``{"name", "subject", "version"}`` means; version -1 is the latest."""
    subject, version = reference["subject"], reference["version"]
    if not isinstance(reference["name"], str) or not isinstance(subject, str) or type(version) is not int:
        refuse(api.SCHEMA_INVALID, "a reference is an object of name, subject and version")
    try:
        return directory.get(subject, None if version == -1 else version)
    except SchemaUnknownError as error:
        refuse(api.SCHEMA_INVALID, f"a reference leads nowhere: {error.detail}")


def _laid_out(schema: str) -> str:
    """The text as a file to review and commit. Raises ContractError where JSON cannot hold it."""
    found = load_json(schema)
    if _deeper(found, MAX_JSON_DEPTH):
        raise ContractError(f"objects and lists are nested more than {MAX_JSON_DEPTH} deep", where="schema")
    try:
        text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        text.encode()
    except ValueError as error:
        raise ContractError(f"the schema is not valid JSON: {error}", where="schema") from error
    return text


def _deeper(value: Any, limit: int) -> bool:
    """Whether JSON is nested more than ``limit`` deep."""
    level = [value]
    for _ in range(limit):
        inner: list[Any] = []
        for one in level:
            inner += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        level = inner
    return any(isinstance(one, dict | list) for one in level)
