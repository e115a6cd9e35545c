"""docs/runbooks.md has a section for every error code, and none for a code that there is not."""

from __future__ import annotations

import re

from pages import ROOT

from broker_bridge.errors import error_codes

PAGE = (ROOT / "docs" / "runbooks.md").read_text()


def codes_of(page: str) -> list[str]:
    return re.findall(r"^### (\w+)$", page, re.MULTILINE)


def test_codes_and_sections_are_in_step() -> None:
    assert sorted(codes_of(PAGE)) == sorted(error_codes())


def test_every_section_has_something_to_say() -> None:
    bodies = re.split(r"^### \w+$", PAGE, flags=re.MULTILINE)[1:]
    short = [code for code, body in zip(codes_of(PAGE), bodies, strict=True) if len(body.split()) < 10]
    assert short == []


def test_a_code_mentioned_in_the_text_exists() -> None:
    mentioned = set(re.findall(r"--code (\w+)", PAGE))
    assert mentioned
    assert mentioned <= set(error_codes())
