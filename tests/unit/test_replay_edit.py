"""Edit and replay: what the contract takes is sent, everything else is refused by name; nothing is dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_plans import stock, stock_codec, stock_contract

from broker_bridge.contracts import Codec, WireForm
from broker_bridge.core.dead_letter import DeadLetter, read_dead_letter
from broker_bridge.core.identity import payload_fingerprint
from broker_bridge.errors import ContractError, NotFoundError, UsageError
from broker_bridge.headers import VALUE_SCHEMA_ID
from broker_bridge.message import Record
from broker_bridge.replay.edit import LONGEST_VALUE, LetterEdit, read_patch, set_operation
from broker_bridge.replay.letter_contract import LetterContract


@pytest.fixture
def codec(tmp_path: Path) -> Codec:
    return stock_codec(tmp_path / "schemas", upcasts=True)


def letter_of(value: bytes | None, *headers: tuple[str, bytes]) -> DeadLetter:
    return read_dead_letter(Record("dlq", 0, 0, 0, b"apple", value, headers))


def edit_of(codec: Codec, *patch: dict[str, Any]) -> LetterEdit:
    return LetterEdit(list(patch), stock_contract(codec))


def read_back(codec: Codec, letter: DeadLetter) -> Any:
    assert letter.value is not None
    return stock_contract(codec).as_written(letter.value, letter.headers)


@pytest.mark.parametrize("form", list(WireForm))
def test_a_value_keeps_its_wire_form_and_its_other_headers(codec: Codec, form: WireForm) -> None:
    headers = [("tag", b"1"), *codec.schema_headers(codec.source.get("shop.Stock", 2), form)]
    letter = letter_of(stock(codec, 5, version=2, form=form), *headers)
    edited, changes = edit_of(codec, {"op": "replace", "path": "/count", "value": 9}).apply(letter)
    assert read_back(codec, edited) == {"id": "apple", "revision": 5, "count": 9, "note": ""}
    assert [(one.path, one.before, one.after) for one in changes] == [("/count", "7", "9"), ("/note", None, '""')]
    assert edited.headers[0] == ("tag", b"1")
    assert sum(name == VALUE_SCHEMA_ID for name, _ in edited.headers) == (form is WireForm.HEADER)
    assert edited.edited_from == payload_fingerprint(letter.value).hex()
    again, _ = edit_of(codec, {"op": "replace", "path": "/count", "value": 10}).apply(edited)
    assert again.edited_from == edited.edited_from
    assert edit_of(codec, {"op": "replace", "path": "/count", "value": 9}).apply(edited).letter is edited


@pytest.mark.parametrize(
    ("operation", "says"),
    [
        ({"op": "replace", "path": "/colour", "value": "red"}, "does not apply"),
        ({"op": "add", "path": "/colour", "value": "red"}, "no /colour"),
        ({"op": "add", "path": "/count/deeper", "value": 1}, "does not apply"),
        ({"op": "replace", "path": "/count", "value": "many"}, "count"),
        ({"op": "replace", "path": "/count", "value": 2**40}, "count"),
        ({"op": "remove", "path": "/id"}, "id"),
        ({"op": "test", "path": "/count", "value": 8}, "does not hold"),
        ({"op": "replace", "path": "", "value": [1]}, "no record"),
        ({"op": "move", "from": "/nothing", "path": "/note"}, "does not apply"),
    ],
)
def test_what_does_not_fit_is_refused_and_tells_no_values(codec: Codec, operation: dict[str, Any], says: str) -> None:
    with pytest.raises(ContractError, match=says) as caught:
        edit_of(codec, operation).apply(letter_of(stock(codec, 424242)))
    assert "424242" not in str(caught.value)


def test_an_edit_can_cure_what_does_not_decode(tmp_path: Path) -> None:
    codec = stock_codec(tmp_path / "schemas")
    letter = letter_of(stock(codec, 5, version=1))
    with pytest.raises(ContractError):
        edit_of(codec).apply(letter)
    edited, _ = edit_of(codec, {"op": "add", "path": "/count", "value": 3}).apply(letter)
    assert read_back(codec, edited) == {"id": "apple", "revision": 5, "count": 3, "note": ""}


def test_to_upcast_is_to_write_anew_as_it_is(codec: Codec) -> None:
    old, tombstone = letter_of(stock(codec, 5, version=1)), letter_of(None)
    edited, changes = edit_of(codec).apply(old)
    assert read_back(codec, edited) == {"id": "apple", "revision": 5, "count": 0, "note": ""}
    assert len(changes) == 2
    assert edit_of(codec).apply(tombstone).letter is tombstone
    current = letter_of(stock(codec, 5))
    assert edit_of(codec).apply(current).letter is current


def test_a_diff_is_bounded(codec: Codec) -> None:
    edited, changes = edit_of(codec, {"op": "replace", "path": "/note", "value": "x" * 9_999}).apply(
        letter_of(stock(codec, 5))
    )
    assert read_back(codec, edited)["note"] == "x" * 9_999
    assert len(changes[0].after or "") == LONGEST_VALUE


@pytest.mark.parametrize(
    "patch",
    [
        {"op": "add"},
        ["add"],
        [{"op": "add"}],
        [{"op": "wish", "path": "/a"}],
        [{"op": "add", "path": "no-slash", "value": 1}],
        [{"op": "add", "path": "/a"}],
        [{"op": "move", "path": "/a"}],
    ],
)
def test_what_is_no_patch_is_refused_before_anything_is_read(codec: Codec, patch: object, tmp_path: Path) -> None:
    path = tmp_path / "patch.json"
    path.write_text(json.dumps(patch))
    with pytest.raises(UsageError) as caught:
        read_patch(path)
    assert caught.value.where == str(path)
    assert caught.value.remedy


def test_patch_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_patch(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text('[{"op": "add", "pa')
    with pytest.raises(UsageError, match="not JSON"):
        read_patch(tmp_path / "cut.json")
    (tmp_path / "large.json").write_text(" " * (2 << 20))
    with pytest.raises(UsageError, match="limit"):
        read_patch(tmp_path / "large.json")


@pytest.mark.parametrize(
    ("given_", "path", "value"),
    [
        ("currency=EUR", "/currency", "EUR"),
        ("count=3", "/count", 3),
        ('count="3"', "/count", "3"),
        ("a.b=null", "/a/b", None),
        ("a/b=x=y", "/a~1b", "x=y"),
        ("note=", "/note", ""),
    ],
)
def test_set_is_short_for_one_operation(given_: str, path: str, value: object) -> None:
    assert set_operation(given_) == {"op": "add", "path": path, "value": value}


@pytest.mark.parametrize("given_", ["currency", "=EUR", "a..b=1", ""])
def test_set_needs_a_field_and_a_value(given_: str) -> None:
    with pytest.raises(UsageError, match="sets nothing"):
        set_operation(given_)


def test_without_a_contract_nothing_can_be_edited(codec: Codec) -> None:
    with pytest.raises(UsageError, match="no contract"):
        LetterEdit.of({"patch": []}, LetterContract(codec, None))
    with pytest.raises(UsageError, match="no contract"):
        LetterEdit.of({"patch": []}, None)
    assert LetterEdit.of(None, None) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
paths = st.sampled_from(["", "/id", "/count", "/note", "/revision", "/count/0", "/-", "/x", "/~0", "/id/~1"])
operations = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "replace", "remove", "test", "copy", "move"]), "path": paths},
    optional={"value": json_values, "from": paths},
)


@given(patch=st.lists(operations, max_size=4))
@settings(max_examples=300, deadline=None)
def test_any_patch_applies_or_is_refused_in_our_words(patch: list[dict[str, Any]], codec_for_all: Codec) -> None:
    try:
        edit = LetterEdit(patch, stock_contract(codec_for_all))
        edited, _ = edit.apply(letter_of(stock(codec_for_all, 5)))
    except (UsageError, ContractError):
        return
    assert set(read_back(codec_for_all, edited)) == {"id", "revision", "count", "note"}


@pytest.fixture(scope="module")
def codec_for_all(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return stock_codec(tmp_path_factory.mktemp("schemas"), upcasts=True)
