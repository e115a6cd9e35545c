"""Any Avro schema, as the checks of schemas need it: a record or not, old or new, registered or not.

A contract is a record that can be encoded; what is compared, fingerprinted or linted need not be one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker_bridge.contracts.contract import read_text
from broker_bridge.contracts.defaults import check_defaults
from broker_bridge.contracts.schema_tree import Node, build_tree, load_json
from broker_bridge.errors import ContractError


@dataclass(frozen=True, eq=False, slots=True)
class AnySchema:
    """A schema from a text. ``raw`` is its JSON, ``where`` its file."""

    raw: Any = field(repr=False)
    tree: Node = field(repr=False)
    where: str


def parse_any(text: str, *, where: str = "schema", defaults: bool = True) -> AnySchema:
    """A schema from its text. Raises ContractError, naming the place.

    Without ``defaults`` a wrong default is let pass: registries hold schemas from before anybody checked, and what
    they wrote is still there.
    """
    try:
        raw = load_json(text)
    except ValueError as error:
        raise ContractError(f"the schema is not valid JSON: {error}", where=where) from error
    try:
        tree = build_tree(raw, lenient=True)
        if defaults:
            check_defaults(tree)
    except ContractError as error:
        place = f"{where}: {error.where}" if error.where else where
        raise ContractError(error.detail, remedy=error.remedy, where=place) from None
    return AnySchema(raw, tree, where)


def read_any(path: Path, *, defaults: bool = True) -> AnySchema:
    """A schema from a file. Raises NotFoundError and ContractError."""
    return parse_any(read_text(path), where=str(path), defaults=defaults)
