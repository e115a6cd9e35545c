"""Operations as JSON: bounded and harmless when written, read strictly, open to newer fields."""

from __future__ import annotations

import json

import pytest

from broker_bridge.core.operation import (
    LARGEST_RECORD,
    LONGEST_TEXT,
    Action,
    Operation,
    Unreadable,
    operation_value,
    read_operation,
)

PLAIN = Operation(id="1", at_ms=1_790_000_000_000, action=Action.LETTERS_DISCARDED, by="ada", host="till-1")


def written(**changes: object) -> bytes:
    """The record of ``PLAIN`` with these fields changed after it was written; None takes one out."""
    fields = {**json.loads(operation_value(PLAIN)), **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def made(**fields: object) -> Operation:
    found = read_operation(operation_value(Operation(**{"id": "1", "at_ms": 1, "action": "a", **fields})))  # type: ignore[arg-type]
    assert isinstance(found, Operation)
    return found


def test_there_and_back() -> None:
    assert read_operation(operation_value(PLAIN)) == PLAIN
    assert operation_value(PLAIN) == operation_value(PLAIN)
    assert b"\n" not in operation_value(PLAIN)


def test_texts_are_made_harmless_and_cut() -> None:
    found = made(by="ada\u202e", host="\ud800", why="fixed\x1b[31m\n" + "x" * 9_999, details={"\x00": "\x07"})
    assert (found.by, found.host) == ("ada\\u202e", "\\ud800")
    assert found.why.startswith("fixed\\x1b[31m\\x0a")
    assert len(found.why) == LONGEST_TEXT
    assert found.why.endswith("…")
    assert found.details == {"\\x00": "\\x07"}


def test_what_is_no_json_is_told_by_its_type_alone() -> None:
    details = {"payload": b"secret", "set": {1}, "nan": float("nan"), "deep": [[["secret"]]], "fine": [1, "a", None]}
    found = made(by="a", host="h", details=details)
    assert b"secret" not in operation_value(found)
    assert found.details == {
        "payload": "<bytes>",
        "set": "<set>",
        "nan": "<float>",
        "deep": [["<list>"]],
        "fine": [1, "a", None],
    }


def test_a_record_stays_small() -> None:
    wide = {f"name {n}": ["x" * 5_000] * 500 for n in range(500)}
    value = operation_value(Operation(**{**_fields(PLAIN), "details": wide, "counts": dict.fromkeys(wide, 1)}))
    assert len(value) <= LARGEST_RECORD
    found = read_operation(value)
    assert isinstance(found, Operation)
    assert "left_out" in found.details
    assert len(found.counts) == 64


def test_newer_fields_and_words_are_taken() -> None:
    found = read_operation(written(action="letters_painted", colour="blue", approved_by=["bob"]))
    assert isinstance(found, Operation)
    assert found.action == "letters_painted"
    assert read_operation(written(why=None, counts=None, details=None, plan_id=None)) == PLAIN


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": None}, "not written by broker-bridge"),
        ({"version": True}, "not written by broker-bridge"),
        ({"version": 2}, "has version 2, this broker-bridge reads up to 1"),
        ({"at_ms": "now"}, "at_ms"),
        ({"at_ms": -1}, "at_ms"),
        ({"at_ms": 10**18}, "at_ms"),
        ({"at_ms": 1.5}, "at_ms"),
        ({"id": ""}, "field id is missing or empty"),
        ({"by": None}, "field by is missing or empty"),
        ({"action": 7}, "field action is not a text"),
        ({"why": ["x"]}, "field why is not a text"),
        ({"counts": [1]}, "field counts is not an object"),
        ({"counts": {"items\x1b": "many"}}, "field counts: 'items\\\\x1b' is not a whole number"),
        ({"details": "x"}, "field details is not an object"),
    ],
)
def test_what_is_no_operation_says_why(changes: dict[str, object], reason: str) -> None:
    found = read_operation(written(**changes))
    assert isinstance(found, Unreadable)
    assert reason in found.reason


def test_every_cut_of_a_record_is_noticed() -> None:
    whole = operation_value(PLAIN)
    assert all(isinstance(read_operation(whole[:size]), Unreadable) for size in range(len(whole)))


def test_numbers_that_are_not_json_are_refused() -> None:
    found = read_operation(operation_value(PLAIN).replace(b'"details":{}', b'"details":{"rate":NaN}'))
    assert isinstance(found, Unreadable)
    assert "NaN" in found.reason


def _fields(operation: Operation) -> dict[str, object]:
    return {name: getattr(operation, name) for name in operation.__slots__}
