"""The run's own copy of ``bridge.toml``: the same text with this run's ports and folders in it."""

from __future__ import annotations

import re
from pathlib import Path

from demo.child import ChildError


def write_run_config(
    template: Path, target: Path, *, bootstrap: str, redis_url: str, target_url: str, schemas: Path
) -> None:
    """Write the copy. Raises ``ChildError`` where the template does not have each of the settings once."""
    text = template.read_text(encoding="utf-8")
    values = {
        r'(?<=^bootstrap = ")[^"]*(?=")': bootstrap,
        r'(?<=^url = ")redis://[^"]*(?=")': redis_url,
        r'(?<=^url = ")http://[^"]*(?=")': target_url,
        r'(?<=^schemas = ")[^"]*(?=")': str(schemas),
    }
    for pattern, value in values.items():
        places = list(re.finditer(pattern, text, re.MULTILINE))
        if len(places) != 1:
            raise ChildError(f"{template}: {pattern} is there {len(places)} times, not once")
        text = text[: places[0].start()] + value + text[places[0].end() :]
    target.write_text(text, encoding="utf-8")
