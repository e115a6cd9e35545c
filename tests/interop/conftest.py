"""The Go and Rust programs of ``examples/``, built once a test run. A missing toolchain is a failure, not a skip."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD_WITHIN_S = 900


def _build(command: list[str], folder: Path) -> None:
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=BUILD_WITHIN_S, check=False)
    assert built.returncode == 0, f"{' '.join(command)} failed in {folder}:\n{built.stderr[-4000:]}"


@pytest.fixture(scope="session")
def orders() -> Path:
    """The Go service ``orders``."""
    folder = ROOT / "examples" / "orders"
    _build(["go", "build", "-o", "orders", "."], folder)
    return folder / "orders"


@pytest.fixture(scope="session")
def payments_kafka() -> Path:
    """The Rust program ``payments-kafka``."""
    folder = ROOT / "examples" / "payments"
    _build(["cargo", "build", "--quiet", "--features", "kafka", "--bin", "payments-kafka"], folder)
    return folder / "target" / "debug" / "payments-kafka"


@pytest.fixture(scope="session")
def payments() -> Path:
    """The Rust service ``payments``."""
    folder = ROOT / "examples" / "payments"
    _build(["cargo", "build", "--quiet", "--bin", "payments"], folder)
    return folder / "target" / "debug" / "payments"


@pytest.fixture(scope="session")
def publish_programs() -> None:
    """The programs of the guide on evolving events, so that running them does not wait for a compiler."""
    _build(["go", "build", "-o", "/dev/null", "./publish"], ROOT / "examples" / "orders")
    _build(["cargo", "build", "--quiet", "--features", "kafka", "--example", "publish"], ROOT / "examples" / "payments")
