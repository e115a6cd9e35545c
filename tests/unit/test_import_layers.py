"""The import contracts of pyproject.toml hold, and each one flags a module that breaks it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACTS = 4

BROKEN = [
    # the module that is given an import, the import, the contract that must flag it
    ("core/claim.py", "import asyncio", "The core takes values and gives values"),
    ("core/claim.py", "from time import monotonic", "The core takes values and gives values"),
    ("core/lanes.py", "import random", "The core takes values and gives values"),
    ("core/lanes.py", "import structlog", "The core takes values and gives values"),
    ("core/lanes.py", "import broker_bridge.worker.health", "Imports run one way"),
    ("errors/base.py", "import broker_bridge.message, broker_bridge.core.claim", "Imports run one way"),
    ("transport/base.py", "import broker_bridge.worker.health", "Imports run one way"),
    ("worker/health.py", "import broker_bridge.cli.main", "Imports run one way"),
    ("worker/health.py", "import broker_bridge.testing", "Imports run one way"),
    ("worker/health.py", "import aiokafka", "Only transport/kafka*.py imports aiokafka"),
    ("transport/memory.py", "from aiokafka.errors import KafkaError", "Only transport/kafka*.py imports aiokafka"),
    ("worker/health.py", "import redis.asyncio", "Only idempotency/redis*.py imports redis"),
    ("idempotency/memory.py", "import redis", "Only idempotency/redis*.py imports redis"),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package and its contracts, to be broken."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(ROOT / "broker_bridge", folder / "broker_bridge", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def lint(folder: Path) -> tuple[int, str]:
    """Exit status and output of import-linter on the package in ``folder``."""
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--config", "pyproject.toml", "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_contracts_hold() -> None:
    status, said = lint(ROOT)
    assert status == 0, said
    assert f"{CONTRACTS} kept, 0 broken" in said


@pytest.mark.parametrize(("module", "line", "contract"), BROKEN)
def test_a_module_that_breaks_a_contract_is_flagged(copy: Path, module: str, line: str, contract: str) -> None:
    path = copy / "broker_bridge" / module
    sound = path.read_text(encoding="utf-8")
    path.write_text(f"{sound}\n{line}\n", encoding="utf-8")
    try:
        status, said = lint(copy)
    finally:
        path.write_text(sound, encoding="utf-8")
    assert status == 1, said
    assert f"{contract} BROKEN" in said


def test_a_module_without_a_layer_is_flagged(copy: Path) -> None:
    path = copy / "broker_bridge" / "elsewhere.py"
    path.write_text("", encoding="utf-8")
    try:
        status, said = lint(copy)
    finally:
        path.unlink()
    assert status == 1
    assert "elsewhere" in said
