"""GUIDs and fingerprints of contracts, and which contract one of them names.

A **fingerprint** follows from the schema's parsing canonical form, which drops docs, defaults and logical types. Two
versions of a contract can share one; then it names the schema only as long as both are read alike.

A **GUID** stands for exactly one version. A registry of Confluent's makes its own (MD5 of the schema as it is stored
there); ``ids.jsonl`` keeps that, as ``guid``, for what was pulled from one. Without it the GUID is
``uuid5(NAMESPACE_URL, "urn:avro-schema:<subject>:<version>:<sha256>")``: made of what stands on the version's line of
``ids.jsonl`` and never changes, so that docs may be edited, and every language can compute it.
"""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from fastavro.schema import fingerprint

from broker_bridge.contracts.contract import Contract
from broker_bridge.contracts.fingerprints import canonical_form
from broker_bridge.contracts.framing import (
    GUID_MAGIC,
    SINGLE_OBJECT_MAGIC,
    SchemaMark,
    WireForm,
    prefix,
)
from broker_bridge.contracts.schema_tree import Node
from broker_bridge.contracts.source import SchemaSource
from broker_bridge.contracts.upcasters import Upcasters
from broker_bridge.errors import SchemaUnknownError


def guid_of(contract: Contract) -> UUID:
    """The GUID of one version of a contract: as recorded, else derived."""
    return contract.guid or uuid5(
        NAMESPACE_URL, f"urn:avro-schema:{contract.subject}:{contract.version}:{contract.sha256}"
    )


def fingerprint_of(contract: Contract) -> bytes:
    """CRC-64-AVRO of the parsing canonical form, as it is on the wire: eight bytes, little-endian."""
    return bytes.fromhex(fingerprint(canonical_form(contract.tree), "CRC-64-AVRO"))


def mark_of(contract: Contract, form: WireForm) -> bytes:
    """The bytes that name a contract: in front of the body, or in the header (``WireForm.HEADER``)."""
    match form:
        case WireForm.CONFLUENT:
            return prefix(contract.schema_id)
        case WireForm.HEADER:
            return GUID_MAGIC + guid_of(contract).bytes
        case WireForm.SINGLE_OBJECT:
            return SINGLE_OBJECT_MAGIC + fingerprint_of(contract)


class MarkedContracts:
    """Finds contracts by what names them in a value. Looks at all contracts once, when the first is asked for, and
    again when there are others."""

    def __init__(self, source: SchemaSource) -> None:
        self._source = source
        self._known: tuple[Contract, ...] = ()
        self._by_mark: dict[bytes, list[Contract]] = {}

    def find(self, mark: SchemaMark) -> list[Contract]:
        """Every contract that the mark may stand for, at least one. Raises SchemaUnknownError."""
        if isinstance(mark, int):
            return [self._source.by_id(mark)]
        known = tuple(self._source.contracts())
        if known != self._known:
            self._index(known)
        found = self._by_mark.get(mark)
        if found:
            return found
        if mark.startswith(GUID_MAGIC):
            return [self._source.by_guid(UUID(bytes=mark[1:]))]
        fetched = self._source.by_fingerprint(mark[len(SINGLE_OBJECT_MAGIC) :])
        self._index(tuple(self._source.contracts()))
        return self._by_mark.get(mark) or [fetched]

    def _index(self, known: tuple[Contract, ...]) -> None:
        by_mark: dict[bytes, list[Contract]] = {}
        for contract in known:
            for form in (WireForm.HEADER, WireForm.SINGLE_OBJECT):
                by_mark.setdefault(mark_of(contract, form), []).append(contract)
        self._known, self._by_mark = known, by_mark


def the_one(mark: SchemaMark, found: list[Contract], upcasters: Upcasters) -> Contract:
    """The first of contracts with one mark. Raises SchemaUnknownError where they are not read alike: their logical
    types differ, or an upcaster says that their values mean different things."""
    first = found[0]
    for other in found[1:]:
        if read_as(first.tree) != read_as(other.tree) or upcasters.between(first, other):
            raise SchemaUnknownError(
                f"{_shown(mark)} stands for {first.subject} v{first.version} and {other.subject} v{other.version}, "
                "which have one canonical form and are read in different ways",
                remedy="write this contract in another wire form",
            )
    return first


def read_as(tree: Node) -> Any:
    """Equal for schemas whose bytes are decoded to the same values: the canonical form with its logical types."""
    return _read_as(tree, set())


def _read_as(node: Node, seen: set[str]) -> Any:
    if node.name and node.name in seen:
        return node.name
    seen.add(node.name)
    inner: list[Any] = [_read_as(one, seen) for one in (*node.branches, *([node.items] if node.items else []))]
    fields = [(field.name, _read_as(field.type, seen)) for field in node.fields]
    logical = (node.logical, node.precision, node.scale)
    return (node.kind, node.name, logical, node.symbols, node.size, tuple(inner), tuple(fields))


def _shown(mark: SchemaMark) -> str:
    if isinstance(mark, int):
        return f"id {mark}"
    if mark.startswith(GUID_MAGIC):
        return f"GUID {UUID(bytes=mark[1:])}"
    return f"fingerprint 0x{mark[:1:-1].hex()}"
