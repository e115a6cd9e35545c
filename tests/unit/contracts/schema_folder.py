"""Folders of schemas for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from broker_bridge.contracts import Codec, SchemaDirectory
from broker_bridge.contracts.contract import canonical_sha256

SCHEMAS = Path(__file__).parents[3] / "schemas"
"""The project's own contracts."""


def write_folder(folder: Path, *schemas: Any) -> Path:
    """Each schema as the next version of its subject, with ids from 1 in the order given."""
    versions: dict[str, int] = {}
    lines: list[str] = []
    for number, schema in enumerate(schemas, start=1):
        space = schema.get("namespace")
        subject = f"{space}.{schema['name']}" if space else schema["name"]
        version = versions[subject] = versions.get(subject, 0) + 1
        file = folder / subject / f"v{version}.avsc"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(schema), encoding="utf-8")
        line = {"id": number, "subject": subject, "version": version, "sha256": canonical_sha256(schema)}
        lines.append(json.dumps(line))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ids.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return folder


def codec_of(folder: Path, *schemas: Any, **limits: int) -> Codec:
    """A codec over a fresh folder with those schemas."""
    return Codec(SchemaDirectory(write_folder(folder, *schemas)), **limits)


def record(*fields: Any, name: str = "T", **more: Any) -> dict[str, Any]:
    """A record schema; a field is ``(name, type)``, ``(name, type, default)`` or a whole field."""
    made = []
    for field in fields:
        if isinstance(field, dict):
            made.append(field)
        else:
            made.append({"name": field[0], "type": field[1]} | ({"default": field[2]} if len(field) > 2 else {}))
    return {"type": "record", "name": name, "fields": made, **more}
