"""Values that do not fit their schema: refused before a byte is written, with the field."""

from __future__ import annotations

import enum
import math
from collections import UserDict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel
from schema_folder import SCHEMAS, codec_of, record

from broker_bridge.contracts import Codec, SchemaDirectory
from broker_bridge.errors import SchemaUnknownError, ValueInvalidError

ORDER: dict[str, Any] = {
    "order_id": "o-1",
    "customer_id": "c-1",
    "amount_cents": 5,
    "currency": "EUR",
    "placed_at": datetime(2026, 1, 2, 3, 4, 5, 678000, UTC),
    "lines": [{"sku": "a", "quantity": 1}],
}
CODEC = Codec(SchemaDirectory(SCHEMAS))


def refused(value: Any, *, version: int | None = None) -> ValueInvalidError:
    with pytest.raises(ValueInvalidError) as caught:
        CODEC.encode("shop.OrderPlaced", version, value)
    return caught.value


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"order_id": 1}, "order_id", "int is not a text"),
        ({"order_id": None}, "order_id", "NoneType is not a text"),
        ({"order_id": "\ud800"}, "order_id", "lone surrogate"),
        ({"amount_cents": "5"}, "amount_cents", "str is not a whole number"),
        ({"amount_cents": 5.0}, "amount_cents", "float is not a whole number"),
        ({"amount_cents": True}, "amount_cents", "bool is not a whole number"),
        ({"amount_cents": 2**63}, "amount_cents", "does not fit long"),
        ({"currency": "CHF"}, "currency", "none of the symbols of shop.Currency"),
        ({"placed_at": datetime(2026, 1, 1)}, "placed_at", "no time zone"),  # noqa: DTZ001
        ({"placed_at": "2026-01-01"}, "placed_at", "str is no datetime"),
        ({"note": 3}, "note", "int is not a text"),
        ({"lines": "abc"}, "lines", "str is not a list"),
        ({"lines": [3]}, "lines[]", "int is not a mapping"),
        ({"lines": [{"sku": "a", "quantity": 2**31}]}, "lines[].quantity", "does not fit int"),
        ({"lines": [{"sku": "a"}]}, "lines[].quantity", "missing and has no default"),
        ({"lines": [{"sku": "a", "quantity": 1, "size": 2}]}, "lines[]", "no field 'size'"),
        ({"chanel": "x"}, "", "no field 'chanel'"),
    ],
)
def test_the_error_names_the_field(change: dict[str, Any], field: str, message: str) -> None:
    error = refused(ORDER | change)
    assert message in error.detail
    assert error.where == f"shop.OrderPlaced v2 {field}".strip()


def test_a_misspelt_optional_field_is_refused_even_where_the_count_is_right() -> None:
    assert "no field 'chanel'" in refused({**ORDER, "note": "x", "chanel": "app"}).detail


def test_what_is_missing() -> None:
    error = refused({key: value for key, value in ORDER.items() if key != "customer_id"})
    assert error.where == "shop.OrderPlaced v2 customer_id"
    assert "missing" in error.detail
    assert "not a mapping" in refused([ORDER]).detail


def test_the_error_does_not_repeat_the_value() -> None:
    assert "4111" not in str(refused(ORDER | {"amount_cents": "4111-1111"}))


def test_defaults_are_filled_and_belong_to_each_value(tmp_path: Path) -> None:
    assert CODEC.decode(CODEC.encode("shop.OrderPlaced", None, ORDER)).value["channel"] == "web"
    old = record()
    new = record(
        ("tags", {"type": "array", "items": "string"}, []), ("raw", "bytes", "\xff"), ("n", ["int", "null"], 7)
    )
    codec = codec_of(tmp_path, old, new)
    framed = codec.encode("T", 1, {})
    reader = codec.source.get("T", 2)
    first = codec.decode(framed, reader=reader).value
    assert first == {"tags": [], "raw": b"\xff", "n": 7}
    first["tags"].append("mine")
    assert codec.decode(framed, reader=reader).value["tags"] == []
    assert codec.decode_json_ready(framed, reader=reader).value["raw"] == "/w=="


def test_batches_name_the_bad_value() -> None:
    with pytest.raises(ValueInvalidError, match="value 1 of the batch"):
        CODEC.encode_batch("shop.OrderPlaced", None, [ORDER, {**ORDER, "amount_cents": "x"}])


def test_unknown_subjects_and_versions() -> None:
    with pytest.raises(SchemaUnknownError, match=r"no subject is called 'shop\.Nope'; known are: shop\.OrderPlaced"):
        CODEC.encode("shop.Nope", None, {})
    with pytest.raises(SchemaUnknownError, match="versions 1 to 2, not 9"):
        CODEC.encode("shop.OrderPlaced", 9, {})


class Currency(enum.Enum):
    """As pydantic models hold enums."""

    EURO = "EUR"


class Line(BaseModel):
    """One line."""

    sku: str
    quantity: int


class Order(BaseModel):
    """An order as a service would model it."""

    order_id: str
    customer_id: str
    amount_cents: int
    currency: Currency
    placed_at: datetime
    lines: list[Line]
    note: str | None = None


def test_models_mappings_and_enums_are_values_too() -> None:
    expected = CODEC.encode("shop.OrderPlaced", 1, ORDER)
    model = Order.model_validate(ORDER)
    assert model.currency is Currency.EURO
    assert CODEC.encode("shop.OrderPlaced", 1, model) == expected
    assert CODEC.encode("shop.OrderPlaced", 1, UserDict(ORDER)) == expected
    assert CODEC.encode("shop.OrderPlaced", 1, ORDER | {"lines": tuple(ORDER["lines"])}) == expected


def test_a_targets_answer_may_hold_more_than_the_contract() -> None:
    answer = {
        "payment_id": "p", "order_id": "o", "customer_id": "c", "amount_cents": 1, "currency": "EUR",
        "sequence": 9, "captured_at": 1_790_000_000_456, "debug": {"node": 3},
    }  # fmt: skip
    decoded = CODEC.decode_json_ready(CODEC.encode_json_ready("shop.PaymentCaptured", None, answer))
    assert decoded.value == {key: value for key, value in answer.items() if key != "debug"}
    with pytest.raises(ValueInvalidError) as caught:
        CODEC.encode_json_ready("shop.PaymentCaptured", None, answer | {"captured_at": "2026-01-01T00:00:00Z"})
    assert caught.value.where == "shop.PaymentCaptured v1 captured_at"


def one(tmp_path: Path, kind: Any) -> Codec:
    return codec_of(tmp_path, record(("x", kind)))


def logical(kind: str, meaning: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "logicalType": meaning, **more}


MONEY = logical("bytes", "decimal", precision=4, scale=2)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (MONEY, Decimal("1.234"), "more than 2 digits after the point"),
        (MONEY, Decimal("123.45"), "more than 4 digits"),
        (MONEY, Decimal("1E+999999"), "decimal"),
        (MONEY, Decimal("NaN"), "not a finite number"),
        (MONEY, 1.5, "float is no Decimal"),
        (MONEY, "1.50", "str is no Decimal"),
        (logical("string", "uuid"), "not-a-uuid", "no UUID"),
        (logical("string", "uuid"), "{12345678-1234-5678-1234-567812345678}", "no UUID"),
        (logical("string", "uuid"), "12345678123456781234567812345678", "no UUID"),
        (logical("string", "uuid"), 7, "no UUID"),
        (logical("int", "date"), datetime(2026, 1, 1, tzinfo=UTC), "no date"),
        (logical("int", "time-millis"), time(1, tzinfo=UTC), "no time of day"),
        (logical("long", "local-timestamp-millis"), datetime(2026, 1, 1, tzinfo=UTC), "has a time zone"),
        ({"type": "fixed", "name": "F", "size": 2}, b"abc", "3 bytes are not the 2 of F"),
        ("bytes", "text", "str is not bytes"),
        ("float", 1e39, "too large"),
        ("double", True, "bool is not a number"),
        ("double", "NaN", "str is not a number"),
        ("boolean", 1, "int is not a boolean"),
        ("null", 0, "int is not null"),
        ({"type": "map", "values": "int"}, {1: 1}, "int is not a text"),
        (["null", "int", "string"], 1.5, "float fits none of the union [null, int, string]"),
        (["null", "int", "string"], 2**31, "int fits none of the union"),
    ],
)
def test_types_and_logical_types(tmp_path: Path, kind: Any, value: Any, message: str) -> None:
    with pytest.raises(ValueInvalidError) as caught:
        one(tmp_path, kind).encode("T", None, {"x": value})
    assert message in caught.value.detail
    assert caught.value.where.startswith("T v1 x")


UPPER = "12345678-1234-5678-1234-56781234567A"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EAST = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("kind", "value", "back", "shown"),
    [
        (MONEY, Decimal("1.5"), Decimal("1.50"), "1.50"),
        (MONEY, Decimal("-1.28"), Decimal("-1.28"), "-1.28"),
        (MONEY, 3, Decimal(3), "3.00"),
        (MONEY, Decimal("99.99"), Decimal("99.99"), "99.99"),
        (logical("fixed", "decimal", precision=4, scale=0, name="F", size=8), Decimal(-1), Decimal(-1), "-1"),
        (logical("string", "uuid"), UPPER, UUID(UPPER), UPPER),
        (logical("int", "date"), date(1969, 12, 31), date(1969, 12, 31), -1),
        (logical("long", "timestamp-millis"), datetime(1970, 1, 1, 2, tzinfo=EAST), EPOCH, 0),
        (logical("long", "timestamp-micros"), -1, datetime(1969, 12, 31, 23, 59, 59, 999999, UTC), -1),
        (logical("int", "time-millis"), time(0, 0, 1, 999), time(0, 0, 1), 1000),
        (logical("int", "unheard-of"), 3, 3, 3),
        (logical("string", "date"), "x", "x", "x"),
        ("double", 3, 3.0, 3.0),
        ("double", math.inf, math.inf, "Infinity"),
        ("float", -math.inf, -math.inf, "-Infinity"),
        (["int", "string", "double"], 2.5, 2.5, 2.5),
        (["null", "double"], 2, 2.0, 2.0),
        (["null", "boolean", "int"], True, True, True),
        ("bytes", b"\x00\xff", b"\x00\xff", "AP8="),
    ],
)  # fmt: skip
def test_what_each_value_becomes(tmp_path: Path, kind: Any, value: Any, back: Any, shown: Any) -> None:
    codec = one(tmp_path, kind)
    framed = codec.encode("T", None, {"x": value})
    assert codec.decode(framed).value == {"x": back}
    assert codec.decode_json_ready(framed).value == {"x": shown}
    assert codec.encode_json_ready("T", None, {"x": shown}) == framed


def test_nan_is_nan_and_text_in_json(tmp_path: Path) -> None:
    codec = one(tmp_path, "double")
    framed = codec.encode("T", None, {"x": math.nan})
    assert math.isnan(codec.decode(framed).value["x"])
    assert codec.decode_json_ready(framed).value == {"x": "NaN"}
    assert codec.encode_json_ready("T", None, {"x": "NaN"}) == framed


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    """The writer has the reader's limits: no value is written that every consumer would call poison."""
    schema = record(("next", ["null", "T"]))
    codec = codec_of(tmp_path, schema, max_value_bytes=200)
    value: dict[str, Any] = {"next": None}
    for _ in range(63):
        value = {"next": value}
    assert codec.decode(codec.encode("T", None, value)).value == value
    with pytest.raises(ValueInvalidError, match="nested more than 64 deep"):
        codec.encode("T", None, {"next": value})
    texts = codec_of(
        tmp_path / "texts", record(("x", {"type": "array", "items": "string"})), max_items=3, max_value_bytes=20
    )
    with pytest.raises(ValueInvalidError, match="more than 3 items"):
        texts.encode("T", None, {"x": ["a"] * 4})
    with pytest.raises(ValueInvalidError, match="the limit is 20"):
        texts.encode("T", None, {"x": ["a" * 30]})


def test_names_in_a_schema_never_become_code(tmp_path: Path) -> None:
    """Symbols and names are checked, and a default is data whatever it says."""
    codec = codec_of(tmp_path, record(), record(("x", "string", '\'); raise SystemExit(1) #\n"""')))
    reader = codec.source.get("T", 2)
    assert codec.decode(codec.encode("T", 1, {}), reader=reader).value == {"x": '\'); raise SystemExit(1) #\n"""'}


def test_deeply_nested_schemas_compile(tmp_path: Path) -> None:
    kind: Any = "int"
    value: Any = 7
    for _ in range(20):
        kind, value = {"type": "array", "items": {"type": "map", "values": ["null", kind]}}, [{"k": value}]
    codec = one(tmp_path, kind)
    framed = codec.encode("T", None, {"x": value})
    assert codec.decode(framed).value == {"x": value}
    assert codec.decode_json_ready(framed).value == {"x": value}
