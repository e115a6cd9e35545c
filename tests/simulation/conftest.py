"""Simulations are silent: thousands of warnings about faults made on purpose help nobody."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True, scope="session")
def silence() -> Iterator[None]:
    """Drop log events before they are rendered."""
    before = structlog.get_config()

    def drop(_: object, __: str, ___: object) -> object:
        raise structlog.DropEvent

    structlog.configure(processors=[drop], cache_logger_on_first_use=False)
    yield
    structlog.configure(**before)
