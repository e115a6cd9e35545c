"""The page of an error code: where it is, and its parts.

In the repository the pages stand under docs/, where people read them. A wheel has them inside the package
(``[tool.hatch.build.targets.wheel.force-include]`` of pyproject.toml).
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import broker_bridge
from broker_bridge.errors import NotFoundError, error_codes

SECTIONS: Final = (
    "What happened",
    "Why",
    "What it means for the records",
    "What to do next",
    "Prove the cause",
)
"""The headings of every page, in this order."""

PACKAGE: Final = Path(broker_bridge.__file__).parent
_LINK: Final = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
_CONSOLE: Final = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING: Final = re.compile(r"^## +(.+?) *$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Runbook:
    """What the page of ``code`` says. ``sections`` are Markdown by heading, ``commands`` those that prove the cause."""

    code: str
    summary: str
    sections: dict[str, str]
    commands: tuple[str, ...]


def runbook_folder(package: Path = PACKAGE) -> Path:
    """Where the pages are: in the package, or in docs/ beside it in an editable install. Raises ``NotFoundError``."""
    places = (package / "runbooks", package.parent / "docs" / "runbooks")
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise NotFoundError(
            "the runbooks are not in this installation",
            where=str(places[0]),
            remedy="install the package anew, from a wheel or the whole repository",
        )
    return found


def find_runbook(code: str, *, folder: Path | None = None) -> Runbook:
    """The page of an error code. Raises ``NotFoundError``, with the nearest code that there is."""
    known = error_codes()
    if code not in known:
        near = difflib.get_close_matches(code, known, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else "all codes: broker-bridge explain"
        raise NotFoundError(f"there is no error code {code!r}", remedy=remedy)
    path = (folder or runbook_folder()) / f"{code}.md"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise NotFoundError(f"the page of {code} cannot be read: {error.strerror}", where=str(path)) from error
    return read_runbook(code, text)


def read_runbook(code: str, page: str) -> Runbook:
    """The parts of a page."""
    head, *rest = _HEADING.split(page)
    summary = " ".join(head.partition("\n")[2].split())
    sections = {heading: _away_from_docs(body.strip()) for heading, body in zip(rest[::2], rest[1::2], strict=True)}
    proof = "".join(_CONSOLE.findall(sections.get(SECTIONS[-1], ""))).replace("\\\n", "")
    return Runbook(code, summary, sections, tuple(re.findall(r"^\$ (.+)$", proof, re.MULTILINE)))


def _away_from_docs(text: str) -> str:
    """Links as a terminal can use them: another code's by its name, those to guides by their file."""

    def shown(link: re.Match[str]) -> str:
        words, target = link[1], link[2]
        if "://" in target or not target.startswith("../"):
            return words
        return f"{words} (docs/{target[3:].partition('#')[0]})"

    return _LINK.sub(shown, text)
