"""``ids.jsonl``: which id on the wire stands for which version of which subject. One JSON object a line.

``sha256`` is that of the parsing canonical form, which decides how bytes are read. ``content``, where it is there, is
that of all that the schema says, defaults, aliases and docs included. ``guid`` is what a registry calls it
(``schema_marks``). Lines are independent of each other: branches that add some merge as a union of lines.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from broker_bridge.contracts.contract import Contract, read_text
from broker_bridge.contracts.framing import MAX_SCHEMA_ID
from broker_bridge.contracts.same_schema import sameness
from broker_bridge.contracts.schema_tree import load_json
from broker_bridge.errors import ContractError, NotFoundError

IDS_FILE: Final = "ids.jsonl"
_KEYS: Final = {"id", "subject", "version", "sha256"}
_MAY_HAVE: Final = {"content", "guid"}
_TWO_BRANCHES: Final = (
    "where two branches took one id, take out the line of the one under which no value was written yet, "
    "and register that version again"
)
_MERGE_MARKS: Final = ("<<<<<<<", "=======", ">>>>>>>", "|||||||")


@dataclass(frozen=True, slots=True)
class IdLine:
    """One line of ``ids.jsonl``."""

    schema_id: int
    subject: str
    version: int
    sha256: str
    where: str
    guid: UUID | None = None
    content: str | None = None


def content_of(text: str) -> str:
    """SHA-256 (hex) of all that a schema says, whatever its layout."""
    return hashlib.sha256(sameness(text).encode()).hexdigest()


def with_line(text: str, contract: Contract, schema_id: int) -> str:
    """The file's text with a line for ``contract`` under that id."""
    if text and not text.endswith("\n"):
        text += "\n"
    line: dict[str, Any] = {
        "id": schema_id,
        "subject": contract.subject,
        "version": contract.version,
        "sha256": contract.sha256,
        "content": content_of(contract.text),
    }
    if contract.guid is not None:
        line["guid"] = str(contract.guid)
    return f"{text}{json.dumps(line)}\n"


def without_line(text: str, contract: Contract) -> str:
    """The file's text without the line for ``contract``."""
    kept = [one for one in text.splitlines() if one.strip() and _parsed(one, "").schema_id != contract.schema_id]
    return "".join(f"{one}\n" for one in kept)


def read_ids(path: Path) -> list[IdLine]:
    """Every line. Raises NotFoundError, and ContractError with file and line at the first that is wrong."""
    if not path.is_file():
        raise NotFoundError("the file of schema ids is missing", where=str(path), remedy="create it, empty for a start")
    lines: list[IdLine] = []
    ids: dict[int, str] = {}
    places: dict[tuple[str, int], str] = {}
    for number, text in enumerate(read_text(path).splitlines(), start=1):
        if not text.strip():
            continue
        line = _parsed(text, f"{path}:{number}")
        first = ids.setdefault(line.schema_id, line.where)
        if first != line.where:
            raise ContractError(
                f"id {line.schema_id} is used twice, first at {first}", where=line.where, remedy=_TWO_BRANCHES
            )
        first = places.setdefault((line.subject, line.version), line.where)
        if first != line.where:
            raise ContractError(
                f"{line.subject} version {line.version} has two ids, first at {first}",
                where=line.where,
                remedy="keep the line whose id values were written under",
            )
        lines.append(line)
    return lines


def _parsed(text: str, where: str) -> IdLine:
    if text.startswith(_MERGE_MARKS):
        raise ContractError(
            "a merge was left unfinished",
            where=where,
            remedy="keep the lines of both sides, and set ids.jsonl merge=union in .gitattributes",
        )
    try:
        found = load_json(text)
    except ValueError as error:
        raise ContractError(f"the line is not valid JSON: {error}", where=where) from error
    if not isinstance(found, dict) or set(found) - _MAY_HAVE != _KEYS:
        keys, more = ", ".join(sorted(_KEYS)), ", ".join(sorted(_MAY_HAVE))
        raise ContractError(f"the line is not an object with exactly {keys}, and perhaps {more}", where=where)
    schema_id, version = found["id"], found["version"]
    if type(schema_id) is not int or not 1 <= schema_id <= MAX_SCHEMA_ID:
        raise ContractError(f"the id is {schema_id!r}, not a whole number from 1 to {MAX_SCHEMA_ID}", where=where)
    if type(version) is not int or version < 1:
        raise ContractError(f"the version is {version!r}, not a whole number from 1", where=where)
    if not all(isinstance(found[key], str) for key in ("subject", "sha256", "content") if key in found):
        raise ContractError("subject, sha256 and content must be texts", where=where)
    guid = _parse_guid(found.get("guid"), where)
    return IdLine(schema_id, found["subject"], version, found["sha256"], where, guid, found.get("content"))


def _parse_guid(written: object, where: str) -> UUID | None:
    """What a registry calls the schema (``schema_marks``); most lines have none."""
    if written is None:
        return None
    try:
        return UUID(written if isinstance(written, str) else "")
    except ValueError as error:
        raise ContractError(f"the guid is {written!r}, not a UUID", where=where) from error
