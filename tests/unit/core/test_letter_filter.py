"""``--where``: what it means, what it refuses, and that hostile values neither stop nor slow it."""

from __future__ import annotations

import contextlib
import json
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest

from broker_bridge.contracts.codec import Codec
from broker_bridge.contracts.directory import SchemaDirectory
from broker_bridge.core.dead_letter import DeadLetter, Failure
from broker_bridge.core.letter_filter import LETTER_FACTS, NotCompared, Verdict, where_of
from broker_bridge.errors import MalformedError, UsageError
from broker_bridge.message import Position

ORDER = {
    "amount_cents": 1299,
    "currency": "EUR",
    "amount": Decimal("10.51"),
    "placed_at": datetime(2026, 11, 24, 1, tzinfo=UTC),
    "seen_at": datetime(2026, 11, 24, 1),  # noqa: DTZ001  a local timestamp of Avro
    "day": date(2026, 11, 24),
    "uuid": UUID(int=1),
    "note": None,
    "gift": True,
    "rate": float("nan"),
    "big": 10**30,
    "address": {"city": "Köln", "zip": "50667", "length": 7},
    "lines": [{"sku": "a", "count": 1}, {"sku": "b", "count": 20}],
    "tags": {"first-order": "yes"},
    "raw": b"\x00\x01",
    "header": {"of": "the value"},
}


def a_letter(**changes: object) -> DeadLetter:
    given = {
        "position": Position("g.orders.dlq", 1, 17),
        "origin": Position("orders", 1, 40),
        "group": "g",
        "failure": Failure(
            "target_rejected", "RejectedError", "no", "card_expired", 3, 1_790_000_000_000, 1_790_000_500_000
        ),
        "service": "payments",
        "hops": 1,
        "replay_id": "rp-1",
        "trace": None,
        "key": b"customer-7",
        "value": b"order",
        "headers": (("ce_type", b"shop.OrderPlaced"), ("empty", None), ("bad", b"\xff")),
        "timestamp_ms": 1_789_999_999_000,
        "idempotency_key": "k",
        "release": "2026.11.2",
    }
    return DeadLetter(**{**given, **changes})  # type: ignore[arg-type]


def judge(expression: str, letter: DeadLetter | None = None, value: object = None) -> Verdict:
    return where_of(expression).judge(letter or a_letter(), lambda *_: ORDER if value is None else value).verdict


@pytest.mark.parametrize(
    "expression",
    [
        'amount_cents > 1000 and currency == "EUR"',
        "amount_cents >= 1299 and not (amount_cents > 1299)",
        "amount > 10.50 and amount < 10.52",
        'placed_at > d"2026-11-24" and placed_at < d"2026-11-24T02:00:00Z"',
        'placed_at == d"2026-11-24T02:00:00+01:00"',
        'seen_at > d"2026-11-24" and day == d"2026-11-24"',
        'uuid == "00000000-0000-0000-0000-000000000001"',
        "note == null and gift",
        "big > 10.5 and big == 1e30",
        'address.city == "Köln" and address["zip"] == "50667" and address.length == 7',
        'currency in ["EUR", "USD"] and "U" in currency and currency.starts_with("E")',
        'currency.as_lower =~ "^e.r$" and currency =~~ "U"',
        "$any([line.count > 10 for line in lines]) and lines.length == 2",
        'tags["first-order"] == "yes"',
        'letter.code == "target_rejected" and letter.target_code == "card_expired" and letter.attempts == 3',
        'letter.key == "customer-7" and letter.partition == 1 and letter.offset == 17 and letter.origin_offset == 40',
        'letter.last_failure > d"2026-09-21" and letter.first_failure < letter.last_failure',
        'letter.release == "2026.11.2" and letter.hops == 1 and letter.size == 5',
        'header["ce_type"] == "shop.OrderPlaced" and header&["nope"] == null and header["empty"] == null',
        'letter.value.header.of == "the value"',
        'header["bad"] == "\\\\xff"',
        "letter.attempts > 2 # and the rest is a comment",
    ],
)
def test_what_matches(expression: str) -> None:
    assert judge(expression) is Verdict.YES


@pytest.mark.parametrize("expression", ['currency == "USD"', "gift == 1", 'amount_cents == "1299"', "not gift"])
def test_what_does_not(expression: str) -> None:
    assert judge(expression) is Verdict.NO


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("amuont_cents > 1", "no field amuont_cents, is amount_cents meant?"),
        ("address.town == null", "no field town"),
        ('currency > 3 or currency == "EUR"', "values of different types"),
        ("note > 3", "values of different types"),
        ("not (note > 3)", "values of different types"),
        ("rate > 1", "values that do not fit"),
        ("amount / 0 > 1", "values of different types"),
        ('tags["other"] == "x"', "is not there"),
        ("lines[7].count == 1", "is not there"),
        ('header["x"] == "y"', "is not there"),
        ('"x" in address', "values that do not fit"),
        ("currency.nope", "no field nope"),
    ],
)
def test_what_cannot_be_compared_does_not_match_and_says_why(expression: str, why: str) -> None:
    judged = where_of(expression).judge(a_letter(), lambda *_: ORDER)
    assert judged.verdict is Verdict.INCOMPARABLE
    assert why in judged.why()


def test_letters_that_do_not_decode_are_told_apart_and_only_where_a_field_is_asked_for() -> None:
    def decode(*_: object) -> dict[str, object]:
        raise MalformedError("the value ends too early")

    counts = NotCompared()
    for number, letter in enumerate([a_letter(), a_letter(value=None), a_letter(headers=())]):
        judged = where_of('header["ce_type"] == "shop.OrderPlaced" and amount_cents > 1').judge(letter, decode)
        assert judged.verdict is [Verdict.UNDECODABLE, Verdict.INCOMPARABLE, Verdict.INCOMPARABLE][number]
        counts.count(letter, judged)
    assert (counts.undecodable, counts.incomparable) == (1, 2)
    first, second = counts.sentences()
    assert first.startswith("1 letters could not be decoded and so were not compared; the first: g.orders.dlq/1/17")
    assert "a tombstone has no fields" in second
    assert where_of("letter.attempts == 3 or amount_cents > 1").judge(a_letter(), decode).verdict is Verdict.YES


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("", "the expression is empty"),
        ("amount_cents >", "ends too early"),
        ("amount_cents = 3", "character 14: '=' is not part of the language; equal is =="),
        ("amount_cents > 1_000", "character 17: '_000' is unexpected"),
        ("currency == 'EUR", "character 13"),
        ('currency =~ "("', "bad regular expression"),
        (r'currency =~ "(a)\\1"', "bad regular expression"),
        ('placed_at > d"yesterday"', "'yesterday' is no time"),
        ('1 > "a"', "values of different types"),
        ("$now > placed_at", "$now is not known"),
        ("$range(1000000000).length > 1", "$range is not known"),
        ("1 << 1000000000000 > 1", "<< is not taken"),
        ("x == 1 or " * 300, "at most 2000"),
        ("__import__('os').system('true')\nopen('/etc/passwd')", "is unexpected"),
        ("amount ≥ 3", "'≥' is not part of the language"),
        ("\x1b[2J", "is not part of the language"),
    ],
)
def test_what_does_not_parse_is_refused_with_its_place_and_a_remedy(expression: str, what: str) -> None:
    with pytest.raises(UsageError) as refused:
        where_of(expression)
    assert what in str(refused.value)
    assert "--where 'amount_cents > 1000" in refused.value.remedy
    assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize("expression", ["not " * 490 + "(" * 10, "not " * 490 + "gift", "[" * 990 + "]" * 990])
def test_deep_nesting_is_no_crash(expression: str) -> None:
    with contextlib.suppress(UsageError):
        assert judge(expression) in Verdict


def test_a_fact_that_does_not_exist_is_a_mistake_of_the_operator() -> None:
    with pytest.raises(UsageError, match="letter has no 'cod'"):
        judge('letter.cod == "x"')


def test_every_fact_can_be_asked_for() -> None:
    for name in LETTER_FACTS:
        assert judge(f"letter.{name} != null") is Verdict.YES, name


def test_nothing_of_python_is_reachable() -> None:
    for expression in (
        "currency.__class__ == 1",
        'address["__class__"] == 1',
        "letter.value.__init__ == 1",
        "lines.__len__",
    ):
        assert judge(expression) is Verdict.INCOMPARABLE


def test_a_regular_expression_costs_no_more_than_the_text_is_long() -> None:
    """Python's own engine would need longer than the universe for this text of 100 000 characters."""
    begun = time.monotonic()
    assert judge(r'currency =~ "^(\\d+,?)+$"', value={"currency": "1" * 100_000 + "x"}) is Verdict.NO
    assert judge('currency =~~ "(a|a)*b.*c.*d"', value={"currency": "ab" * 50_000}) is Verdict.NO
    assert time.monotonic() - begun < 60


def test_real_avro_values_of_logical_types(tmp_path: Path) -> None:
    schema = {
        "type": "record",
        "name": "shop.Priced",
        "fields": [
            {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
            {"name": "placed_at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "day", "type": {"type": "int", "logicalType": "date"}},
            {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
            {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
            {"name": "note", "type": ["null", "string"], "default": None},
        ],
    }
    (tmp_path / "shop.Priced").mkdir()
    (tmp_path / "shop.Priced" / "v1.avsc").write_text(json.dumps(schema))
    (tmp_path / "ids.jsonl").touch()
    SchemaDirectory(tmp_path, drafts=True).register("shop.Priced", 1)
    codec = Codec(SchemaDirectory(tmp_path))
    value = {
        "amount": Decimal("10.51"),
        "placed_at": datetime(2026, 11, 25, tzinfo=UTC),
        "day": date(2026, 11, 25),
        "id": UUID(int=7),
        "kind": "B",
        "note": None,
    }
    letter = a_letter(value=codec.encode("shop.Priced", 1, value))
    for expression in (
        "amount > 10.50 and amount < 10.52",
        'placed_at > d"2026-11-24"',
        'day == d"2026-11-25" and kind == "B" and note == null and id == "00000000-0000-0000-0000-000000000007"',
    ):
        judged = where_of(expression).judge(letter, lambda value, _: codec.decode(value).value)
        assert judged.verdict is Verdict.YES, (expression, judged.why())
