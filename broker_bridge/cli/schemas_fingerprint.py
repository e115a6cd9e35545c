"""`broker-bridge schemas fingerprint`: the canonical form of a schema, and its fingerprints."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from broker_bridge.cli.output import emit, json_option
from broker_bridge.cli.schema_options import SCHEMA_FILE
from broker_bridge.contracts.any_schema import read_any
from broker_bridge.contracts.fingerprints import fingerprints


@click.command("fingerprint", epilog="Exit status: 0 printed · 2 not a schema, or no such file.")
@click.argument("file", metavar="FILE.avsc", type=SCHEMA_FILE)
@json_option
def fingerprint(file: Path, *, as_json: bool) -> None:
    """Print a schema's parsing canonical form with its CRC-64-AVRO and SHA-256.

    Two schemas of one form have the same bytes on the wire. Docs, aliases, defaults and logical types are no part of
    it. "on the wire" is how single-object encoding puts the CRC in front of a value.

    \b
    Example:
      broker-bridge schemas fingerprint schemas/shop.OrderPlaced/v1.avsc --json
    """
    found = fingerprints(read_any(file))
    lines = [
        found.canonical,
        f"CRC-64-AVRO  {found.crc64} (on the wire {found.crc64_wire})",
        f"SHA-256      {found.sha256}",
    ]
    emit({"file": str(file), **dataclasses.asdict(found)}, human="\n".join(lines), as_json=as_json)
