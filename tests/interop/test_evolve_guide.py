"""The guide on evolving an event, run whole: its Go and Rust programs too, on real servers."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guides" / "evolve-an-event.md"


@pytest.fixture
def page_runner(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What runs the pages of the documentation, which lies with their tests."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "docs"))
    return importlib.import_module("page_runner")


@pytest.mark.usefixtures("publish_programs")
def test_the_guide(page_runner: ModuleType, tmp_path: Path, kafka_bootstrap: str, redis_url: str, unique: str) -> None:
    servers = {"bootstrap": kafka_bootstrap, "redis_url": redis_url}
    with page_runner.PageRunner(tmp_path, **servers, prefix=unique[-8:], run_too=frozenset({"go", "cargo"})) as runner:
        assert runner.run(GUIDE.read_text()) > 0
