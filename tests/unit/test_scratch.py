"""Rows on disk: what is written together is written in an order that later rows can rely on."""

from __future__ import annotations

from contextlib import closing

import pytest

from broker_bridge.replay.scratch import BATCH, Scratch

TABLES = "CREATE TABLE doubt (at INTEGER PRIMARY KEY); CREATE TABLE letter (at INTEGER);"
DOUBT = "INSERT INTO doubt VALUES (?)"
LETTER = "INSERT INTO letter SELECT at FROM doubt WHERE at = ?"


@pytest.mark.parametrize("letters", [1, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH])
def test_a_full_batch_of_one_statement_finds_the_few_rows_of_an_earlier_one(letters: int) -> None:
    with closing(Scratch(TABLES)) as scratch:
        for at in range(5):
            scratch.add(DOUBT, (at,))
        for at in range(letters):
            scratch.add(LETTER, (at,))
        assert scratch.count("SELECT count(*) FROM letter") == min(5, letters)
