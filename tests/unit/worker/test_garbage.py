"""While a worker runs the collector looks less often; what the process chose itself stays."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from broker_bridge.worker.garbage import YOUNG_OBJECTS, rare_collections


@pytest.fixture(autouse=True)
def own_threshold() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


def test_collections_are_rare_inside_and_as_before_outside() -> None:
    with rare_collections():
        assert gc.get_threshold() == (YOUNG_OBJECTS, 10, 10)
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("chosen", [0, 500_000])
def test_a_choice_of_none_or_of_more_is_kept(chosen: int) -> None:
    gc.set_threshold(chosen)
    with rare_collections():
        assert gc.get_threshold()[0] == chosen
    assert gc.get_threshold()[0] == chosen


def test_a_choice_made_meanwhile_is_kept() -> None:
    with rare_collections():
        gc.set_threshold(5_000)
    assert gc.get_threshold()[0] == 5_000


def test_the_last_of_two_workers_puts_back_what_was() -> None:
    first, second = rare_collections(), rare_collections()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert gc.get_threshold() == (700, 10, 10)
