"""The pages of the documentation, and the fenced blocks in them.

How a block is marked up (all of it is ordinary Markdown)::

    ```python shop.py          written to that file
    ```python                  run as a script, in the order of the page
    ```toml bridge.toml        written, and must be a valid configuration (also without a name)
    ```sh                      each line run, in order; a line that ends with & runs until the page ends
    ```text                    lines that the commands before it must have printed
    ```json                    must be JSON

Other languages are shown only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])

_FENCE = re.compile(r"^(?P<ticks>```+)(?P<info>[^`\n]*)\n(?P<body>.*?)^(?P=ticks)\s*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. ``line`` is that of the fence, ``file`` the name it is to be written to."""

    line: int
    language: str
    file: str
    body: str


def blocks_of(text: str) -> list[Block]:
    """The fenced blocks, in order."""
    found = []
    for match in _FENCE.finditer(text):
        language, _, file = match["info"].strip().partition(" ")
        found.append(Block(text.count("\n", 0, match.start()) + 1, language, file.strip(), match["body"]))
    return found


def without_blocks(text: str) -> str:
    """The page's prose: fenced blocks and inline code taken out."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))


def anchors_of(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for match in re.finditer(r"^#{1,6} +(.+?) *$", _FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match[1]).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number, anchor = 0, slug
        while anchor in found:
            number += 1
            anchor = f"{slug}-{number}"
        found.add(anchor)
    return found


def links_of(text: str) -> list[str]:
    """Where the page points to, reference definitions included."""
    prose = without_blocks(text)
    inline = re.findall(r"\]\(([^)\s]+)\)", prose)
    return inline + re.findall(r"^\[[^\]]+\]: *(\S+)", prose, re.MULTILINE)


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its level or above. Raises ``KeyError``."""
    match = re.search(rf"^(#+) {re.escape(heading)} *$", text, re.MULTILINE)
    if match is None:
        raise KeyError(heading)
    following = re.search(rf"^#{{1,{len(match[1])}}} ", text[match.end() :], re.MULTILINE)
    return text[match.end() : match.end() + following.start()] if following else text[match.end() :]
