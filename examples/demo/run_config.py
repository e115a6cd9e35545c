"""The run's own copy of ``bridge.toml``: the same text with this run's ports and folders in it."""

from __future__ import annotations

import re
from pathlib import Path

from demo.child import ChildError


def write_run_config(
    template: Path, target: Path, *, bootstrap: str, redis_url: str, target_url: str, schemas: Path
) -> None:
    """Write the copy. Raises ``ChildError`` where the template lacks one of the settings."""
    text = template.read_text(encoding="utf-8")
    values = {
        r'(?m)^(bootstrap = )"[^"]*"': bootstrap,
        r'(?m)^(url = )"redis://[^"]*"': redis_url,
        r'(?m)^(url = )"http://[^"]*"': target_url,
        r'(?m)^(schemas = )"[^"]*"': str(schemas),
    }
    for pattern, value in values.items():
        text, found = re.subn(pattern, lambda match, value=value: f'{match[1]}"{value}"', text)
        if found != 1:
            raise ChildError(f"{template}: {pattern} is there {found} times, not once")
    target.write_text(text, encoding="utf-8")
