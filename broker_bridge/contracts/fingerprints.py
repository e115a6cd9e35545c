"""The parsing canonical form of a schema and its fingerprints (Avro 1.12 specification, "Parsing Canonical Form").

Two schemas of one form have the same bytes on the wire. Docs, aliases, defaults and logical types are no part of it.

Not every library keeps the rules. apache-avro for Rust (0.22) leaves ``{"type": "long"}`` where a logical type was, and
avro for Python writes a fixed type out again where its name would do: their fingerprints of such schemas are others.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from fastavro.schema import fingerprint

from broker_bridge.contracts.any_schema import AnySchema
from broker_bridge.contracts.schema_tree import NAMED, Node


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """``crc64`` is CRC-64-AVRO as a signed number, as Java has it; ``crc64_wire`` its eight bytes in hex, lowest first,
    as single-object encoding puts them in front of a value. ``sha256`` is hex, and what ``ids.jsonl`` holds."""

    canonical: str
    crc64: int
    crc64_wire: str
    sha256: str


def fingerprints(schema: AnySchema) -> Fingerprints:
    """The form of a schema and what follows from it."""
    canonical = canonical_form(schema.tree)
    wire = fingerprint(canonical, "CRC-64-AVRO")
    return Fingerprints(
        canonical=canonical,
        crc64=int.from_bytes(bytes.fromhex(wire), "little", signed=True),
        crc64_wire=wire,
        sha256=hashlib.sha256(canonical.encode()).hexdigest(),
    )


def canonical_form(tree: Node) -> str:
    """The parsing canonical form as text."""
    return json.dumps(_plain(tree, set()), separators=(",", ":"), ensure_ascii=False)


def _plain(node: Node, told: set[Node]) -> Any:
    """JSON of a type; of a named one only its full name where it was told before."""
    kind = node.kind
    if kind == "union":
        return [_plain(branch, told) for branch in node.branches]
    if kind in ("array", "map"):
        return {"type": kind, "items" if kind == "array" else "values": _plain(node.element, told)}
    if kind not in NAMED:
        return kind
    if node in told:
        return node.name
    told.add(node)
    form: dict[str, Any] = {"name": node.name, "type": kind}
    if kind == "record":
        form["fields"] = [{"name": one.name, "type": _plain(one.type, told)} for one in node.fields]
    elif kind == "enum":
        form["symbols"] = list(node.symbols)
    else:
        form["size"] = node.size
    return form
