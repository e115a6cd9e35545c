"""Simulations are silent, and share one set of processes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest
import structlog
from runs import on_all_cores, silence


@pytest.fixture(autouse=True, scope="session")
def silent() -> Iterator[None]:
    """Drop log events before they are rendered."""
    before = structlog.get_config()
    silence()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def pool() -> Iterator[ProcessPoolExecutor]:
    """A process for every core."""
    with on_all_cores() as processes:
        yield processes
