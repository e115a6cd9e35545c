"""Names and values of headers, and identity as it is read from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from broker_bridge import headers as h
from broker_bridge.message import Header, Position, Record

PLACE = Position("orders.placed", 1, 42)
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
GOLDEN = sorted((Path(__file__).parents[2] / "schemas" / "golden").glob("*.json"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_golden_vectors_carry_the_names_of_this_module_in_its_order(path: Path) -> None:
    names = [name for name, _ in json.loads(path.read_text())["headers"]]
    known = [h.CE_SPECVERSION, h.CE_ID, h.CE_SOURCE, h.CE_TYPE, h.CE_TIME, h.CE_SUBJECT, h.CONTENT_TYPE]
    known += [h.TRACEPARENT, h.TRACESTATE, h.CORRELATION_ID, h.CAUSATION_ID, h.IDEMPOTENCY_KEY, h.DEADLINE]
    assert names
    assert names == [name for name in known if name in names]


def test_there_are_golden_vectors() -> None:
    assert len(GOLDEN) >= 5


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([b"a"], "a"),
        ([b"a", b"b"], "b"),
        ([b"a", None], None),
        ([b"a", b"\xff"], None),
        ([b""], ""),
        (["ü".encode()], "ü"),
    ],
)
def test_text_is_that_of_the_last_header_of_the_name(values: list[bytes | None], expected: str | None) -> None:
    headers: list[Header] = [("other", b"x"), *(("name", value) for value in values), ("NAME", b"y")]
    assert h.text_of(headers, "name") == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"0", 0),
        (b"12", 12),
        (b"9" * 18, 10**18 - 1),
        (b"9" * 19, -1),
        (b"9" * 5_000, -1),
        (b"-1", -1),
        (b"+1", -1),
        (b" 1", -1),
        (b"1.0", -1),
        (b"1_0", -1),
        (b"", -1),
        ("²".encode(), -1),
        ("٣".encode(), -1),
        (None, -1),
    ],
)
def test_numbers_are_plain_decimal_digits(value: bytes | None, expected: int) -> None:
    assert h.int_of([("n", value)], "n", -1) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "t",
        "t/1",
        "/1/2",
        "t/1/",
        "t//2",
        "t/-1/2",
        "t/1/2.0",
        "t/²/2",
        "t/1/²",
        "t/٣/1",
        "t/1/" + "9" * 5_000,
        "t/ 1/2",
    ],
)
def test_what_is_no_position(text: str) -> None:
    assert h.parse_position(text) is None


@given(st.builds(Position, st.text(min_size=1), st.integers(0, 2**31 - 1), st.integers(0, 10**18 - 1)))
def test_positions_read_back(position: Position) -> None:
    assert h.parse_position(str(position)) == position


def test_a_slash_in_front_belongs_to_the_topic() -> None:
    assert h.parse_position("a/b/1/2") == Position("a/b", 1, 2)


@given(st.text())
def test_any_text_reads_as_a_position_or_none(text: str) -> None:
    found = h.parse_position(text)
    assert found is None or isinstance(found, Position)


def ce(source: str, event_id: str) -> list[Header]:
    """The two headers that name an event."""
    return [("ce_source", source.encode()), ("ce_id", event_id.encode())]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("idempotency-key", b"own#1"), *ce("urn:a", "1")], "own#1"),
        ([("idempotency-key", b""), *ce("urn:a", "1")], "urn:a#1"),
        ([("idempotency-key", b"\xff"), *ce("urn:a", "1")], "urn:a#1"),
        (ce("urn:a", "1"), "urn:a#1"),
        (ce("/shop#eu", "a#b"), "/shop%23eu#a#b"),
        (ce("", "1"), "kafka://orders.placed/1/42"),
        (ce("urn:a", ""), "kafka://orders.placed/1/42"),
        ([("ce_id", b"1")], "kafka://orders.placed/1/42"),
        ([], "kafka://orders.placed/1/42"),
    ],
)
def test_idempotency_keys(headers: list[Header], expected: str) -> None:
    assert h.idempotency_key(headers, PLACE) == expected


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_two_events_never_make_one_key(source: str, event_id: str, other_source: str, other_id: str) -> None:
    assume("%23" not in source + other_source)  # in a URI that is another spelling of the `#` it stands for
    same = (source, event_id) == (other_source, other_id)
    key = h.idempotency_key(ce(source, event_id), PLACE)
    assert (key == h.idempotency_key(ce(other_source, other_id), PLACE)) == same


@given(st.text("a#", min_size=2, max_size=8), st.data())
def test_moving_hashes_between_source_and_id_makes_another_key(text: str, data: st.DataObject) -> None:
    cuts = st.integers(1, len(text) - 1)
    one, other = data.draw(cuts), data.draw(cuts)
    keys = {h.idempotency_key(ce(text[:cut], text[cut:]), PLACE) for cut in (one, other)}
    assert len(keys) == len({one, other})


@given(st.lists(st.tuples(st.sampled_from(["a", "bridge-x", "bridge-", "bridge", "Bridge-x", "xbridge-"]), st.none())))
def test_only_the_prefix_marks_the_bridges_own(headers: list[Header]) -> None:
    assert h.without_bridge(headers) == [item for item in headers if item[0] not in ("bridge-x", "bridge-")]


def test_only_the_groups_own_lanes_are_believed_about_an_origin() -> None:
    record = Record(*PLACE, 0, None, None, [("bridge-origin", b"orders.placed/3/7")])
    assert h.identify(record, trusted=False) == ("kafka://orders.placed/1/42", PLACE)
    assert h.identify(record, trusted=True) == ("kafka://orders.placed/3/7", Position("orders.placed", 3, 7))


@pytest.mark.parametrize("value", [None, b"", b"garbage", b"t/\xff/1", "t/²/1".encode()])
def test_an_origin_that_cannot_be_read_is_where_the_record_is(value: bytes | None) -> None:
    assert h.identify(Record(*PLACE, 0, None, None, [("bridge-origin", value)]), trusted=True).origin == PLACE
