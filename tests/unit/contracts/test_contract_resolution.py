"""Reading with another version than the value was written under."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from schema_folder import codec_of, record

from broker_bridge.contracts import Codec, Contract, Form
from broker_bridge.errors import IncompatibleError, MalformedError


def versions(tmp_path: Path, old: Any, new: Any) -> tuple[Codec, Contract]:
    codec = codec_of(tmp_path, old, new)
    return codec, codec.source.get("T", 2)


def enum(*symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "E", "symbols": list(symbols), **more}


def test_a_pair_that_never_resolves_is_refused_every_time(tmp_path: Path) -> None:
    codec, reader = versions(tmp_path, record(("x", "string")), record(("x", "int")))
    framed = codec.encode("T", 1, {"x": "a"})
    for _ in range(2):
        with pytest.raises(IncompatibleError, match="x: string cannot be read as int"):
            codec.decode(framed, reader=reader)
    batch = codec.decode_batch([framed, framed], reader=reader)
    assert [type(one) for one in batch] == [IncompatibleError] * 2
    assert codec.decode(framed).value == {"x": "a"}


def test_another_subject_is_incompatible_not_malformed(tmp_path: Path) -> None:
    codec = codec_of(tmp_path, record(("x", "string")), record(("x", "string"), name="Other"))
    with pytest.raises(IncompatibleError, match="Other is not called T"):
        codec.decode(codec.encode("Other", None, {"x": "a"}), reader=codec.source.get("T"))


def test_only_the_symbol_the_reader_lacks_is_refused(tmp_path: Path) -> None:
    codec, reader = versions(tmp_path, record(("x", enum("A", "B"))), record(("x", enum("B", "C"))))
    assert codec.decode(codec.encode("T", 1, {"x": "B"}), reader=reader).value == {"x": "B"}
    with pytest.raises(IncompatibleError, match="the reader has no symbol A, written under version 1") as caught:
        codec.decode(codec.encode("T", 1, {"x": "A"}), reader=reader)
    assert caught.value.where == "T v1 x"


def test_the_readers_default_symbol_stands_in(tmp_path: Path) -> None:
    codec, reader = versions(tmp_path, record(("x", enum("A", "B"))), record(("x", enum("B", default="B"))))
    assert codec.decode(codec.encode("T", 1, {"x": "A"}), reader=reader).value == {"x": "B"}


def test_only_the_branch_the_reader_lacks_is_refused(tmp_path: Path) -> None:
    codec, reader = versions(tmp_path, record(("x", ["null", "int", "string"])), record(("x", ["long", "null"])))
    for value in (None, 7):
        assert codec.decode(codec.encode("T", 1, {"x": value}), reader=reader).value == {"x": value}
    with pytest.raises(IncompatibleError, match="the value is string, which the reader cannot take"):
        codec.decode(codec.encode("T", 1, {"x": "a"}), reader=reader)


@pytest.mark.parametrize(
    ("old", "new", "written", "read"),
    [
        ("int", "double", 7, 7.0),
        ("long", "float", 7, 7.0),
        ("int", ["null", "double"], 7, 7.0),
        (["null", "int"], ["null", "long", "double"], 7, 7),
        ("string", "bytes", "ü", "ü".encode()),
        ("bytes", "string", "ü".encode(), "ü"),
        ("string", ["bytes", "string"], "a", "a"),
        ("string", ["null", "bytes"], "a", b"a"),
        ("long", {"type": "long", "logicalType": "timestamp-millis"}, 1000, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ({"type": "long", "logicalType": "timestamp-millis"}, "long", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), 1000),
        ({"type": "array", "items": "int"}, {"type": "array", "items": ["null", "double"]}, [1, 2], [1.0, 2.0]),
        ({"type": "map", "values": "int"}, {"type": "map", "values": "long"}, {"a": 1}, {"a": 1}),
    ],
)  # fmt: skip
def test_promotions_and_unions(tmp_path: Path, old: Any, new: Any, written: Any, read: Any) -> None:
    codec, reader = versions(tmp_path, record(("x", old)), record(("x", new)))
    found = codec.decode(codec.encode("T", 1, {"x": written}), reader=reader).value["x"]
    assert found == read
    assert type(found) is type(read)


def test_bytes_that_are_no_text_are_malformed(tmp_path: Path) -> None:
    codec, reader = versions(tmp_path, record(("x", "bytes")), record(("x", "string")))
    with pytest.raises(MalformedError, match="not UTF-8"):
        codec.decode(codec.encode("T", 1, {"x": b"\xff"}), reader=reader)


def test_fields_by_alias_in_the_readers_order(tmp_path: Path) -> None:
    old = record(("a", "int"), ("b", "string"), ("c", "int"))
    new = record(("c", "long"), {"name": "first", "type": "int", "aliases": ["a"]}, ("d", "string", "new"))
    codec, reader = versions(tmp_path, old, new)
    value = codec.decode(codec.encode("T", 1, {"a": 1, "b": "skipped", "c": 3}), reader=reader).value
    assert list(value.items()) == [("c", 3), ("first", 1), ("d", "new")]


def test_skipped_fields_are_checked_like_others(tmp_path: Path) -> None:
    codec, reader = versions(tmp_path, record(("a", enum("A")), ("b", "int")), record(("b", "int")))
    framed = bytearray(codec.encode("T", 1, {"a": "A", "b": 1}))
    assert codec.decode(bytes(framed), reader=reader).value == {"b": 1}
    framed[5] = 4
    with pytest.raises(MalformedError, match="no enum symbol 2"):
        codec.decode(bytes(framed), reader=reader)


def test_recursive_types_grow_fields(tmp_path: Path) -> None:
    old = record(("value", "int"), ("next", ["null", "T"]))
    new = record(("value", "long"), ("next", ["null", "T"], None), ("seen", "boolean", False))
    codec, reader = versions(tmp_path, old, new)
    framed = codec.encode("T", 1, {"value": 1, "next": {"value": 2, "next": None}})
    inner = {"value": 2, "next": None, "seen": False}
    assert codec.decode(framed, reader=reader).value == {"value": 1, "next": inner, "seen": False}


def test_forms_of_one_value(tmp_path: Path) -> None:
    money = {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}
    codec = codec_of(tmp_path, record(("m", money), ("u", {"type": "string", "logicalType": "uuid"}), ("b", "bytes")))
    shown = {"m": "-1.28", "u": "12345678-1234-5678-1234-567812345678", "b": "AP8="}
    framed = codec.encode_json_ready("T", None, shown)
    (found,) = codec.decode_batch([framed], form=Form.JSON)
    assert found == codec.decode_json_ready(framed)
    assert codec.decode_json_ready(framed).value == shown
    assert codec.decode(framed, logical=False).value == {**shown, "m": b"\x80", "b": b"\x00\xff"}
    padded = framed.replace(b"\x02\x80", b"\x04\xff\x80", 1)
    assert codec.decode_json_ready(padded).value == shown, (
        "a decimal with a spare sign byte, as other libraries write it"
    )
    assert codec.decode(bytearray(framed)).value == codec.decode(framed).value
