"""README and guides do what they say: every block is run, every configuration read, every promised line printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_runner import BrokenBlockError, PageRunner
from pages import PAGES, ROOT, blocks_of

NOT_RUN = {
    "docs/guides/local-stack.md": "starts and ends servers of its own; tests/cli/test_stack_cli.py runs these commands",
    "docs/guides/incident-service-away.md": "needs the Rust service: tests/interop/test_incident_guide.py",
    "docs/guides/evolve-an-event.md": "needs Go and Rust programs; tests/interop/test_evolve_guide.py runs all of it",
}
RUN = ("python", "toml", "sh", "text", "json")
WITH_BLOCKS = [
    str(page.relative_to(ROOT))
    for page in PAGES
    if str(page.relative_to(ROOT)) not in NOT_RUN
    and any(block.language in RUN for block in blocks_of(page.read_text()))
]


@pytest.fixture
def runner(tmp_path: Path, kafka_bootstrap: str, redis_url: str, unique: str):
    with PageRunner(tmp_path, bootstrap=kafka_bootstrap, redis_url=redis_url, prefix=unique[-8:]) as made:
        yield made


@pytest.mark.parametrize("page", WITH_BLOCKS)
def test_page(page: str, tmp_path: Path, kafka_bootstrap: str, redis_url: str, unique: str) -> None:
    with PageRunner(tmp_path, bootstrap=kafka_bootstrap, redis_url=redis_url, prefix=unique[-8:]) as runner:
        assert runner.run((ROOT / page).read_text()) > 0


def test_the_readme_is_among_them() -> None:
    assert "README.md" in WITH_BLOCKS
    assert len(WITH_BLOCKS) >= 5


BROKEN = {
    "an exception": "```python\nraise SystemExit(3)\n```\n",
    "a failed assertion": "```python\nassert 1 + 1 == 3\n```\n",
    "no Python": "```python shop.py\ndef (:\n```\n",
    "a command that fails": "```sh\nbroker-bridge worker topics --config nowhere.toml\n```\n",
    "an option that is not there": "```sh\nbroker-bridge worker topics --crate 4\n```\n",
    "a stack option that is not there": "```sh\nbroker-bridge stack up --kafka-prot 9092\n```\n",
    "a program nobody knows": "```sh\nbrokerbridge worker run\n```\n",
    "a make target that is not there": "```sh\nmake demmo\n```\n",
    "a file that is not there": "```sh\ncargo run --manifest-path examples/nowhere/Cargo.toml\n```\n",
    "a setting that is not there": "```toml\n[kafka]\nbootstrapp = '127.0.0.1:9092'\n```\n",
    "a job that is not there": "```sh\nkill %1\n```\n",
    "no JSON": "```json\n{,}\n```\n",
    "an excerpt that is not in its file": "```go examples/orders/main.go\nfunc nowhere() {}\n```\n",
    "a line that is never printed": "```python\nprint('one')\n```\n```text\ntwo\n```\n",
    "a test that fails": (
        "```python test_it.py\ndef test_it():\n    assert 0\n```\n```sh\npython -m pytest test_it.py\n```\n"
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_runner_notices(what: str, runner: PageRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("page_runner.PATIENCE_S", 1 if what.startswith("a line") else 30)
    with pytest.raises(BrokenBlockError, match=r"block at line \d+"):
        runner.run(BROKEN[what])


def test_the_runner_notices_a_background_program_that_ended_badly(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str
) -> None:
    page = "```python bad.py\nraise SystemExit(3)\n```\n```sh\npython bad.py &\n```\n```text\nnever\n```\n"
    runner = PageRunner(tmp_path, bootstrap=kafka_bootstrap, redis_url=redis_url, prefix="p")
    with pytest.raises(BrokenBlockError, match="ended: "), runner:
        runner.run(page)
