"""The page of an error code is found where the package is used from its sources and where it was installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from broker_bridge.cli.runbook import SECTIONS, find_runbook, read_runbook, runbook_folder
from broker_bridge.errors import NotFoundError, error_codes

ROOT = Path(__file__).parents[2]
PARTS = ("broker_bridge", "docs/runbooks", "pyproject.toml", "README.md", "LICENSE")
PAGE = """# fenced

One line,
wrapped.

## What happened

See [lease_lost](lease_lost.md), [the guide](../guides/local-stack.md#here) and [a site](https://example.org).

## Prove the cause

```console
$ broker-bridge doctor    # why
$ broker-bridge dlq list \\
    --limit 1
```

```text
$ this is output
```
"""


def test_from_the_sources_it_is_the_page_under_docs() -> None:
    assert runbook_folder() == ROOT / "docs" / "runbooks"
    for code in error_codes():
        assert tuple(find_runbook(code).sections) == SECTIONS


def test_a_wheel_holds_every_page_and_finds_it_there(tmp_path: Path) -> None:
    source, built, installed = tmp_path / "source", tmp_path / "built", tmp_path / "installed"
    for part in PARTS:
        whole, copy = ROOT / part, source / part
        if whole.is_dir():
            shutil.copytree(whole, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(whole, copy)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    [wheel] = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(installed)
    assert runbook_folder(installed / "broker_bridge") == installed / "broker_bridge" / "runbooks"
    ask = "from broker_bridge.cli.main import main; main(['explain', 'fenced'])"
    told = subprocess.run(
        [sys.executable, "-c", ask], cwd=installed, capture_output=True, text=True, timeout=60, env={"PYTHONPATH": "."}
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("# fenced: ")
    pages = {path.name: path.read_bytes() for path in (installed / "broker_bridge" / "runbooks").iterdir()}
    assert pages == {path.name: path.read_bytes() for path in (ROOT / "docs" / "runbooks").iterdir()}


def test_pages_in_the_package_come_before_others(tmp_path: Path) -> None:
    (tmp_path / "docs" / "runbooks").mkdir(parents=True)
    assert runbook_folder(tmp_path / "broker_bridge") == tmp_path / "docs" / "runbooks"
    (tmp_path / "broker_bridge" / "runbooks").mkdir(parents=True)
    assert runbook_folder(tmp_path / "broker_bridge") == tmp_path / "broker_bridge" / "runbooks"


def test_where_there_are_none_that_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="not in this installation"):
        runbook_folder(tmp_path / "broker_bridge")
    with pytest.raises(NotFoundError, match="the page of fenced cannot be read"):
        find_runbook("fenced", folder=tmp_path)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [("tpoic_missing", "'topic_missing'"), ("../fenced", "'fenced'"), ("§", "broker-bridge explain")],
)
def test_no_such_code_gets_the_nearest(code: str, remedy: str) -> None:
    with pytest.raises(NotFoundError) as told:
        find_runbook(code)
    assert remedy in told.value.remedy


def test_the_parts_of_a_page() -> None:
    page = read_runbook("fenced", PAGE)
    assert page.summary == "One line, wrapped."
    assert page.sections["What happened"] == "See lease_lost, the guide (docs/guides/local-stack.md) and a site."
    assert page.commands == ("broker-bridge doctor    # why", "broker-bridge dlq list     --limit 1")
