"""A schema that somebody else wrote ends in a clear error or in a reader, within limits of time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from schema_folder import codec_of, record

from broker_bridge.contracts import frame, parse_contract
from broker_bridge.errors import ContractError, MalformedError

PROGRAM = Path(__file__).with_name("hostile_schemas.py")


def run(how: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(PROGRAM), how], capture_output=True, text=True, timeout=600)


def test_hostile_schemas_are_classified_within_limits() -> None:
    finished = run("ours")
    assert finished.returncode == 0, f"died with {finished.returncode}: {finished.stderr[-2000:]}"
    tally = json.loads(finished.stdout)
    assert tally["wrong"] == []
    assert tally["cases"] > 100
    assert tally["accepted"] > 15, "some are odd and sound: a parser that refuses all would pass otherwise"
    assert tally["peak_mb"] < 500


def test_the_same_check_fails_on_a_parser_without_limits() -> None:
    finished = run("naive")
    assert finished.returncode == 0
    wrong = json.loads(finished.stdout)["wrong"]
    assert len(wrong) > 20
    assert any("1000000 fields: accepted" in one for one in wrong)
    assert any("__import__" in one and "accepted" in one for one in wrong)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (record(*[(f"f{number}", "int") for number in range(10_000)]), "more than 10000 types, fields and symbols"),
        (record(("a", "T", {})), "has more than 10000 items, or is nested without end"),
        (record(("a", {"type": "array", "items": "int"}, [7] * 10_001)), "has more than 10000 items"),
        (record(("a", "string", "\ud800")), "surrogates not allowed"),
        (record(doc="x" * 1_048_576), "the limit is 1048576"),
        (record(("a", "double", float("nan"))), "NaN is no JSON"),
        (record(("a", "double", float("-inf"))), "-Infinity is no JSON"),
    ],
)
def test_the_error_says_what_is_too_much(schema: object, message: str) -> None:
    with pytest.raises(ContractError) as caught:
        parse_contract(json.dumps(schema))
    assert message in caught.value.detail
    assert len(str(caught.value)) < 400


def test_copies_of_a_large_default_count_as_items_of_the_value(tmp_path: Path) -> None:
    """A byte for each record on the wire must not become a list of thousands in each."""
    numbers = {"type": "array", "items": "int"}

    def rows(*more: object) -> object:
        return record(("rows", {"type": "array", "items": record(("a", "boolean"), *more, name="Row")}))

    codec = codec_of(tmp_path, rows(), rows(("b", numbers, [7] * 1_000)))
    reader = codec.source.get("T", 2)
    few = codec.decode(frame(1, b"\x04\x01\x01\x00"), reader=reader).value["rows"]
    assert few == [{"a": True, "b": [7] * 1_000}] * 2
    assert few[0]["b"] is not few[1]["b"]
    with pytest.raises(MalformedError, match="more than 100000 items") as caught:
        codec.decode(frame(1, b"\xc8\x01" + b"\x01" * 100 + b"\x00"), reader=reader)
    assert caught.value.where == "T v1 rows[].b"
