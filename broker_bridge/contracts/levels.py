"""How compatible new versions must be: the folder's own rule and those of single subjects, in ``compatibility.json``.

Beside the schemas, to be committed with them. Sorted, one subject a line, so that merges are easy. A folder without the
file has the rule BACKWARD.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from broker_bridge.contracts.compatibility import Mode
from broker_bridge.contracts.contract import read_text
from broker_bridge.contracts.folder_files import replace_text
from broker_bridge.contracts.schema_tree import load_json
from broker_bridge.errors import ContractError

LEVELS_FILE: Final = "compatibility.json"
DEFAULT_LEVEL: Final = Mode.BACKWARD
_REMEDY: Final = "it has a default level and an object of levels by subject; see: broker-bridge schemas serve --help"


@dataclass(frozen=True, slots=True)
class Levels:
    """The rules of one folder. ``default`` holds for every subject that has none in ``subjects``."""

    default: Mode = DEFAULT_LEVEL
    subjects: Mapping[str, Mode] = field(default_factory=dict)

    def of(self, subject: str) -> Mode:
        """The rule for new versions of a subject."""
        return self.subjects.get(subject, self.default)

    def with_level(self, subject: str | None, level: Mode) -> Levels:
        """Another rule for a subject, or for all that have none of their own."""
        if subject is None:
            return replace(self, default=level)
        return replace(self, subjects={**self.subjects, subject: level})

    def without(self, subject: str | None) -> Levels:
        """No rule of its own for a subject; BACKWARD for the folder."""
        if subject is None:
            return replace(self, default=DEFAULT_LEVEL)
        return replace(self, subjects={name: level for name, level in self.subjects.items() if name != subject})


def read_levels(folder: Path) -> Levels:
    """The rules of a folder. Raises ContractError where the file is damaged."""
    path = folder / LEVELS_FILE
    if not path.exists():
        return Levels()
    try:
        found = load_json(read_text(path))
        if not isinstance(found, dict):
            raise ValueError(f"they are {type(found).__name__}, not an object")
        default = Mode(found["default"])
        subjects = {str(name): Mode(level) for name, level in found["subjects"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ContractError(f"the levels cannot be read: {error}", where=str(path), remedy=_REMEDY) from error
    return Levels(default, subjects)


def write_levels(folder: Path, levels: Levels) -> None:
    """Replace the file, whole or not at all. The caller holds the folder's lock."""
    shown = {
        "default": levels.default.value,
        "subjects": {k: levels.subjects[k].value for k in sorted(levels.subjects)},
    }
    replace_text(folder / LEVELS_FILE, json.dumps(shown, indent=2, ensure_ascii=False) + "\n")
