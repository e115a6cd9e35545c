"""The id of a kind of failure is the same whoever computes it: ``schemas/failure-fingerprints.json`` pins it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from broker_bridge.core.fingerprint import fingerprint

VECTORS = json.loads((Path(__file__).parents[3] / "schemas/failure-fingerprints.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["fingerprint"])
def test_the_vectors(vector: dict[str, str]) -> None:
    assert fingerprint(vector["code"], vector["target_code"]) == vector["fingerprint"]


def test_it_is_what_the_page_says() -> None:
    text = "v1\ntarget_rejected\ncard_expired"
    assert fingerprint("target_rejected", "card_expired") == hashlib.sha256(text.encode()).hexdigest()[:12]


def test_a_target_code_that_utf8_cannot_hold_has_one_too() -> None:
    assert fingerprint("target_rejected", "\ud800") == fingerprint("target_rejected", "?")
