"""Links lead somewhere, and nothing of the machine a page was written on is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import PAGES, ROOT, anchors_of, links_of

READMES = [ROOT / "examples" / name / "README.md" for name in ("orders", "payments")]
NEVER = {
    "a path of one machine": re.compile(r"(?<![\w.])/(work|home|root|tmp/[a-z])(/|\b)"),
    "a package registry": re.compile(r"\b(pypi|crates\.io|proxy\.golang|repo1\.maven|npmjs)\b"),
}


@pytest.mark.parametrize("page", [*PAGES, *READMES], ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    assert broken_links(page, page.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_nothing_of_one_machine(page: Path) -> None:
    text = page.read_text()
    assert [(what, found[0]) for what, pattern in NEVER.items() if (found := pattern.search(text))] == []


def test_broken_links_are_noticed() -> None:
    page = ROOT / "docs" / "x.md"
    text = (
        "[a](../README.md) [b](nowhere.md) [c](../README.md#install) [d](../README.md#nowhere) [e](#here)\n\n# Here\n"
    )
    assert broken_links(page, text) == ["nowhere.md", "../README.md#nowhere"]


def test_every_page_is_linked_from_somewhere() -> None:
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in [*PAGES, *READMES]
        for link in links_of(page.read_text())
        if "://" not in link
    }
    assert [str(page.relative_to(ROOT)) for page in PAGES if page not in linked and page.name != "README.md"] == []


def broken_links(page: Path, text: str) -> list[str]:
    broken = []
    for link in links_of(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() and path:
            broken.append(link)
            continue
        if anchor and anchor not in anchors_of(text if target == page else target.read_text()):
            broken.append(link)
    return broken
