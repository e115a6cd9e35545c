"""Claim keys, fingerprints of payloads and of failures, and replay tags: pinned, because they outlive a release."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.core.claim import NO_REPLAY
from broker_bridge.core.fingerprint import fingerprint
from broker_bridge.core.identity import claim_key, claim_key_in, payload_fingerprint, replay_tag
from broker_bridge.headers import idempotency_key_in
from broker_bridge.message import Position

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)


@pytest.mark.parametrize(
    ("key", "namespace", "expected"),
    [
        ("", "", "11d2df4e979aa105cf552e9544ebd2b5"),
        ("urn:orders#1", "orders.placed", "28c20161ea820b77d6765c4d1dd351d9"),
        ("bestellung-ü", "orders.placed", "2e01246029df35db62ef5dcc7a53d6a1"),
    ],
)
def test_claim_keys_stay_what_they_are(key: str, namespace: str, expected: str) -> None:
    assert claim_key(key, namespace=namespace).hex() == expected


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_namespace_and_key_cannot_run_together(space: str, key: str, other_space: str, other_key: str) -> None:
    same = (space, key) == (other_space, other_key)
    assert (claim_key(key, namespace=space) == claim_key(other_key, namespace=other_space)) == same


@given(TEXTS, st.integers(0, 12))
def test_moving_the_border_between_namespace_and_key_makes_another_claim(text: str, at: int) -> None:
    found = {claim_key(text[cut:], namespace=text[:cut]) for cut in {0, min(at, len(text)), len(text)}}
    assert len(found) == len({0, min(at, len(text)), len(text)})


def test_payload_fingerprints_stay_what_they_are_and_tell_null_from_empty() -> None:
    assert payload_fingerprint(b"order").hex() == "441e63c444a179dd"
    assert payload_fingerprint(b"").hex() == "e4a6a0577479b2b4"
    assert payload_fingerprint(None).hex() == "f" * 16


def test_replay_tags() -> None:
    assert replay_tag(None) == NO_REPLAY
    assert len(NO_REPLAY) == 8
    assert replay_tag("rp-1").hex() == "893a11e6e5f26ddf"
    assert replay_tag("") != NO_REPLAY


@pytest.mark.parametrize(
    ("code", "target_code", "expected"),
    [
        ("target_rejected", "card_declined", "5c27d914907c"),
        ("target_rejected", "", "f25580c7761a"),
        ("avro_malformed", "", "a64ffc63a16a"),
        ("schema_unknown", "999", "a929d2954c1d"),
        ("target_rejected", "größe", "d936ccef92c2"),
    ],
)
def test_fingerprints_of_failures_stay_what_they_are(code: str, target_code: str, expected: str) -> None:
    assert fingerprint(code, target_code) == expected


def test_a_target_code_that_is_no_text_has_a_fingerprint_too() -> None:
    assert fingerprint("target_rejected", "\ud800") == fingerprint("target_rejected", "?")


@given(TEXTS, TEXTS)
def test_other_codes_other_fingerprints(code: str, other: str) -> None:
    assert (fingerprint("a", code) == fingerprint("a", other)) == (code == other)
    assert len(fingerprint(code, other)) == 12


HEADER = st.one_of(st.none(), st.binary(max_size=8), st.text("a#%ü", max_size=4).map(str.encode))


@given(st.dictionaries(st.sampled_from(["ce_id", "ce_source", "idempotency-key", "x"]), HEADER), TEXTS)
def test_the_key_made_of_bytes_is_that_of_the_text(named: dict[str, bytes | None], namespace: str) -> None:
    origin = Position("orders", 1, 2)
    expected = claim_key(idempotency_key_in(named, origin), namespace=namespace)
    assert claim_key_in(named, origin, namespace=namespace) == expected
