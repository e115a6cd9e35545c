"""One version of one contract: a schema that has a subject, a version and, once registered, an id on the wire."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from fastavro.schema import parse_schema, to_parsing_canonical_form

from broker_bridge.contracts.defaults import check_defaults
from broker_bridge.contracts.schema_tree import MAX_CONTRACT_TYPES, Node, build_tree, load_json
from broker_bridge.errors import ContractError, NotFoundError
from broker_bridge.message import SchemaRef

UNREGISTERED = 0
"""The id of a schema that is not in ``ids.jsonl`` (ids on the wire start at 1)."""


@dataclass(frozen=True, eq=False, slots=True)
class Contract:
    """A schema and its place. Compared by identity: a directory hands out one object for each version.

    ``schema`` is the parsed schema for fastavro, ``text`` the file as it stands, ``tree`` what the codec compiles from,
    ``names`` the full names of all types it defines, ``fields`` the names of the record's fields. ``guid`` is what a
    registry calls it, where that is known (``schema_marks.guid_of`` otherwise).
    """

    ref: SchemaRef
    text: str = field(repr=False)
    schema: dict[str, Any] = field(repr=False)
    tree: Node = field(repr=False)
    sha256: str = field(repr=False)
    names: frozenset[str] = field(repr=False)
    where: str = ""
    guid: UUID | None = None

    @property
    def subject(self) -> str:
        """The subject: the record's full name, or one that starts with a topic's name and has a dash."""
        return self.ref.subject

    @property
    def record_name(self) -> str:
        """The full name of the record."""
        return self.tree.name

    @property
    def version(self) -> int:
        """The version, from 1."""
        return self.ref.version

    @property
    def schema_id(self) -> int:
        """The id on the wire, ``UNREGISTERED`` where there is none yet."""
        return self.ref.schema_id

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the record's fields, in order."""
        return tuple(one.name for one in self.tree.fields)


def parse_contract(
    text: str,
    *,
    subject: str = "",
    version: int = 1,
    schema_id: int = UNREGISTERED,
    guid: UUID | None = None,
    where: str = "schema",
) -> Contract:
    """A contract from the text of an ``.avsc`` file. Without ``subject`` it is the record's own name.

    Raises ContractError: not JSON, not a valid Avro schema, not a record, or a record of another name than ``subject``.
    Only a subject with a dash, which no Avro name has, may differ: ``<topic>-value`` and its like.
    """
    try:
        raw = load_json(text)
    except ValueError as error:
        raise ContractError(f"the schema is not valid JSON: {error}", where=where) from error
    try:
        tree = build_tree(raw, max_types=MAX_CONTRACT_TYPES)
        if tree.kind != "record":
            raise ContractError(f"a contract is a record, this schema is a {tree.kind}")
        if subject and tree.name != subject and "-" not in subject:
            raise ContractError(
                f"the record is called {tree.name!r}, not {subject!r}",
                remedy="a subject is the full name of its record, or a topic's: <topic>-value, <topic>-<full name>",
            )
        check_defaults(tree)
    except ContractError as error:
        place = f"{where}: {error.where}" if error.where else where
        raise ContractError(error.detail, remedy=error.remedy, where=place) from None
    schema = _for_fastavro(raw, where)
    return Contract(
        ref=SchemaRef(subject or tree.name, version, schema_id),
        text=text,
        schema=schema,
        tree=tree,
        sha256=canonical_sha256(raw),
        names=frozenset(schema["__named_schemas"]),
        where=where,
        guid=guid,
    )


def read_contract(path: Path) -> Contract:
    """A contract from any file, by the name of its record. Raises NotFoundError and ContractError."""
    return parse_contract(read_text(path), where=str(path))


def read_text(path: Path) -> str:
    """A file's text. Raises NotFoundError where it cannot be read, ContractError where it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ContractError(f"the file is not UTF-8: {error}", where=str(path)) from error
    except OSError as error:
        raise NotFoundError(f"the file cannot be read: {error.strerror}", where=str(path)) from error


def canonical_sha256(schema: Any) -> str:
    """SHA-256 (hex) of the Avro parsing canonical form: the same for two texts that mean the same bytes on the wire."""
    return hashlib.sha256(to_parsing_canonical_form(schema).encode()).hexdigest()


def _for_fastavro(raw: Any, where: str) -> dict[str, Any]:
    try:
        parsed = parse_schema(raw)
    except Exception as error:
        raise ContractError(f"fastavro refuses the schema: {error}", where=where) from error
    assert isinstance(parsed, dict)
    return parsed


def version_files(folder: Path) -> Iterator[tuple[int, Path]]:
    """``v<N>.avsc`` of one subject's folder, lowest first. Raises ContractError at any other ``.avsc`` name."""
    found: list[tuple[int, Path]] = []
    for path in folder.glob("*.avsc"):
        digits = path.stem[1:]
        if not path.stem.startswith("v") or not (digits.isascii() and digits.isdigit()) or digits.startswith("0"):
            raise ContractError("a schema file is called v<N>.avsc, with N from 1", where=str(path))
        found.append((int(digits), path))
    yield from sorted(found)
