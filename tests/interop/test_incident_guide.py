"""The guide through an outage of the Rust service, run whole, with the service itself, on real servers."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guides" / "incident-service-away.md"


@pytest.mark.usefixtures("payments")
def test_the_guide(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kafka_bootstrap: str, redis_url: str, unique: str
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "docs"))
    page_runner = importlib.import_module("page_runner")
    servers = {"bootstrap": kafka_bootstrap, "redis_url": redis_url}
    with page_runner.PageRunner(tmp_path, **servers, prefix=unique[-8:], run_too=frozenset({"cargo"})) as runner:
        assert runner.run(GUIDE.read_text()) > 0
