"""Which letters of a file are in a topic: by every byte of them, in 24 bytes a letter."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.core import letter_import
from broker_bridge.core.letter_import import FoundLetters, letter_digest
from broker_bridge.message import Record

ONE = Record("t", 0, 7, 5, b"key", b"value", [("a", b"1"), ("b", None)])


@pytest.mark.parametrize(
    "other",
    [
        replace(ONE, partition=1),
        replace(ONE, timestamp_ms=6),
        replace(ONE, key=None),
        replace(ONE, key=b"", value=b"keyvalue"),
        replace(ONE, key=b"keyv", value=b"alue"),
        replace(ONE, value=None),
        replace(ONE, headers=[("b", None), ("a", b"1")]),
        replace(ONE, headers=[("a", b"1")]),
        replace(ONE, headers=[("a", b"1"), ("b", b"")]),
        replace(ONE, headers=[("a", b"1"), ("b", None), ("b", None)]),
        replace(ONE, headers=[("a1", b""), ("b", None)]),
    ],
)
def test_every_byte_counts(other: Record) -> None:
    assert letter_digest(other) != letter_digest(ONE)


def test_the_place_does_not_count() -> None:
    assert letter_digest(replace(ONE, topic="u", offset=8, headers=tuple(ONE.headers))) == letter_digest(ONE)


@given(
    st.lists(st.binary(min_size=16, max_size=16), max_size=40),
    st.lists(st.binary(min_size=16, max_size=16), max_size=5),
    st.integers(1, 7),
)
def test_found_as_a_dict_would(digests: list[bytes], others: list[bytes], part: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(letter_import, "_PART", part)
        found = FoundLetters(digests)
    assert len(found) == len(set(digests))
    there: dict[bytes, int] = {}
    for offset, digest in enumerate([*others, *digests[::2]]):
        found.found(digest, offset)
        there[digest] = offset
    for digest in digests:
        assert found.offset(digest) == there.get(digest)
    for digest in set(others) - set(digests):
        assert found.offset(digest) is None
