"""Invariant I25: malformed bytes end in a classified error, within limits of time and memory, and the process lives."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_bytes import NUMBER, SPECIAL, varint
from schema_folder import SCHEMAS, codec_of, record

from broker_bridge.contracts import Codec, SchemaDirectory, frame
from broker_bridge.errors import MalformedError, SchemaUnknownError

PROGRAM = Path(__file__).with_name("hostile_bytes.py")


def run(decoder: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(PROGRAM), decoder], capture_output=True, text=True, timeout=400)


def test_hostile_bytes_are_classified_within_limits() -> None:
    finished = run("codec")
    assert finished.returncode == 0, f"the decoder died with {finished.returncode}: {finished.stderr[-2000:]}"
    tally = json.loads(finished.stdout)
    assert tally["wrong"] == []
    assert tally["cases"] > 20_000
    assert tally["decoded"] > 500, "some mutations are valid: a decoder that refuses all would pass otherwise"
    assert tally["peak_mb"] < 250


def test_the_same_check_fails_on_a_decoder_without_guards() -> None:
    finished = run("fastavro")
    assert finished.returncode == 0
    wrong = json.loads(finished.stdout)["wrong"]
    assert any("bytes more" in one for one in wrong)
    assert any("enum symbol -" in one for one in wrong)


def test_the_same_check_outlives_a_decoder_that_kills_its_process() -> None:
    assert run("crash").returncode < 0


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    """A codec over the hostile schemas."""
    return codec_of(tmp_path_factory.mktemp("schemas"), *SPECIAL)


@pytest.mark.parametrize(
    ("schema", "body", "message"),
    [
        ("Int", b"\xff" * 10 + b"\x01", "more than 10 bytes"),
        ("Long", b"\xff" * 9 + b"\x02", "more than 64 bits"),
        ("Int", varint(2**31), "more than 32 bits"),
        ("Union", varint(-1), "no union branch -1"),
        ("Union", varint(3), "no union branch 3"),
        ("Enum", varint(-1), "no enum symbol -1"),
        ("Enum", varint(2), "no enum symbol 2"),
        ("Text", varint(-1), "length is negative"),
        ("Text", varint(9) + b"ab", "a length is 9, 2 bytes are left"),
        ("Text", b"\x04\xff\xfe", "not UTF-8"),
        ("Text", b"", "end inside the value"),
        ("Double", b"\x00" * 7, "end inside the value"),
        ("Bool", b"\x02", "a boolean is the byte 2"),
        ("Bool", b"\x01\x01", "1 bytes are left over"),
        ("Nulls", varint(20_000_000) + b"\x00", "more than 100000 items"),
        ("NestedNulls", (varint(60_000) + varint(60_000)), "more than 100000 items"),
        ("T", b"\x02" * 70 + b"\x00", "nested more than 64 deep"),
        ("Endless", b"", "nested more than 64 deep"),
        ("Money", varint(1_000_000) + b"\x7f" * 1_000_000, "a decimal takes more than"),
        ("Money", varint(5) + b"\x7f" * 5, "more digits than its precision"),
        ("Nulls", varint(-1) + varint(5) + b"\x00" * 6, "a block is not as long as it says"),
        ("Instant", varint(2**62), "out of Python's range"),
        ("Clock", varint(-1), "outside the day"),
    ],
)
def test_the_error_says_what_is_wrong_and_where(codec: Codec, schema: str, body: bytes, message: str) -> None:
    with pytest.raises(MalformedError) as caught:
        codec.decode(frame(NUMBER[schema], body))
    assert message in caught.value.detail
    assert "of the body)" in caught.value.detail
    assert caught.value.where.startswith(f"{schema} v1")


def test_the_error_names_the_field_and_no_content() -> None:
    codec = Codec(SchemaDirectory(SCHEMAS))
    value = {
        "order_id": "o", "customer_id": "secret", "amount_cents": 1, "currency": "EUR", "placed_at": 1,
        "lines": [{"sku": "a", "quantity": 1}, {"sku": "b", "quantity": 2}],
    }  # fmt: skip
    framed = codec.encode("shop.OrderPlaced", 1, value)
    with pytest.raises(MalformedError) as caught:
        codec.decode(framed[:-3])
    assert caught.value.where == "shop.OrderPlaced v1 lines[].quantity" or "lines[]" in caught.value.where
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"", "the value is empty"),
        (b"\x00", "shorter than magic byte and schema id"),
        (b"\x00\x00\x00\x00", "shorter than magic byte and schema id"),
        (b'{"a": 1}', "the first byte is 0x7b"),
        (b"\x00\xff\xff\xff\xff", "the schema id is negative"),
    ],
)
def test_bad_framing(codec: Codec, value: bytes, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        codec.decode(value)


def test_an_unknown_id_is_not_malformed(codec: Codec) -> None:
    with pytest.raises(SchemaUnknownError, match="no schema has id 4711"):
        codec.decode(frame(4711, b""))


def test_limits_are_settings(tmp_path: Path) -> None:
    schema = record(("a", {"type": "array", "items": "null"}), ("s", "string"))
    small = codec_of(tmp_path, schema, max_value_bytes=20, max_items=3)
    assert small.decode(frame(1, varint(3) + b"\x00\x02x")).value == {"a": [None] * 3, "s": "x"}
    with pytest.raises(MalformedError, match="more than 3 items"):
        small.decode(frame(1, varint(4) + b"\x00\x02x"))
    with pytest.raises(MalformedError, match="the value is 21 bytes, the limit is 20"):
        small.decode(frame(1, b"\x00" * 16))


def test_long_numbers_with_leading_zero_groups_are_read(codec: Codec) -> None:
    """The specification does not ask for the shortest form."""
    assert codec.decode(frame(NUMBER["Long"], b"\x82\x80\x00")).value == {"l": 1}
