"""docs/design.md says where everything is: its file map and the tree are in step."""

from __future__ import annotations

import re

import pytest
from pages import ROOT, section

PAGE = (ROOT / "docs" / "design.md").read_text()
PACKAGE = ROOT / "broker_bridge"
AS_ONE = ("chaos/",)
"""Folders that stand on the map as one line: no user or maintainer of the engine looks for a behaviour in them."""


def listed(page: str) -> list[str]:
    return re.findall(r"^\| .+ \| `([\w/.]+)` \|$", section(page, "Where is …?"), re.MULTILINE)


def files() -> set[str]:
    """Every file that holds a behaviour: packages' ``__init__.py`` only gather names, and folders may stand as one."""
    kinds = ("py", "lua", "xml", "json")
    found = {str(path.relative_to(PACKAGE)) for kind in kinds for path in PACKAGE.rglob(f"*.{kind}")}
    found = {next((folder for folder in AS_ONE if path.startswith(folder)), path) for path in found}
    return {path for path in found if not path.endswith("/__init__.py")}


def test_every_file_is_on_the_map_once_and_nothing_else() -> None:
    assert sorted(listed(PAGE)) == sorted(files())


def test_files_named_in_the_text_exist() -> None:
    named = set(re.findall(r"`([a-z_]+/[\w/]+\.(?:py|lua))`", PAGE))
    assert [name for name in named if not ((PACKAGE / name).exists() or (ROOT / name).exists())] == []


@pytest.mark.parametrize("gone", ["core/retry.py", "worker/rebuild.py"])
def test_a_file_that_is_not_on_the_map_is_noticed(gone: str) -> None:
    page = re.sub(rf"^\| .+ \| `{re.escape(gone)}` \|\n", "", PAGE, flags=re.MULTILINE)
    assert set(listed(PAGE)) - set(listed(page)) == {gone}
    assert gone in files()
