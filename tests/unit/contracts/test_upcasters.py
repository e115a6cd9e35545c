"""Upcasters: old values through a user's functions to the reader's version, gaps, failures, golden vectors."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from schema_folder import record, write_folder

from broker_bridge.cli.main import main
from broker_bridge.contracts import Codec, Form, SchemaDirectory, Upcasters, WireForm, load_upcasters, upcaster
from broker_bridge.contracts.golden import verify
from broker_bridge.contracts.upcasters import Upcaster
from broker_bridge.errors import ConfigError, IncompatibleError, SchemaUnknownError, UpcastError
from broker_bridge.transport.partitioning import partition_of

INSTANT = {"type": "long", "logicalType": "timestamp-millis"}
MONEY = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
LINES = {"type": "array", "items": record(("cents", "int"), name="Line", namespace="n")}
V1 = record(("id", "string"), ("euros", "double"), ("at", INSTANT), namespace="n")
V2 = record(("id", "string"), ("cents", "long"), ("at", INSTANT), namespace="n")
V3 = record(("id", "string"), ("cents", "long"), ("at", INSTANT), ("note", ["null", "string"], None), namespace="n")
V4 = record(
    ("id", "string"),
    ("price", MONEY),
    ("lines", LINES),
    ("at", INSTANT),
    ("note", ["null", "string"], None),
    namespace="n",
)
AT = datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)
OLD = {"id": "a", "euros": 12.99, "at": AT}
Value = dict[str, Any]


def euros_to_cents(value: Value) -> Value:
    value["cents"] = round(value.pop("euros") * 100)
    return value


def cents_to_price(value: Value) -> Value:
    cents = value.pop("cents")
    return value | {"price": Decimal(cents) / 100, "lines": [{"cents": cents}]}


def steps(*given: tuple[int, Callable[[Value], Value]]) -> Upcasters:
    return Upcasters(Upcaster("n.T", version, function) for version, function in given)


CHAIN = steps((1, euros_to_cents), (3, cents_to_price))


@pytest.fixture
def directory(tmp_path: Path) -> SchemaDirectory:
    """Versions 1 to 4, ids the same: 1→2 and 3→4 are beyond Avro, 2→3 is not."""
    return SchemaDirectory(write_folder(tmp_path / "schemas", V1, V2, V3, V4))


def test_a_chain_leads_from_the_first_version_to_the_last(directory: SchemaDirectory) -> None:
    codec = Codec(directory, upcasters=CHAIN)
    found = codec.decode(codec.encode("n.T", 1, OLD), reader=directory.get("n.T"))
    assert found.value == {"id": "a", "price": Decimal("12.99"), "lines": [{"cents": 1299}], "at": AT, "note": None}
    assert found.schema.version == 1, "what it was written under"
    assert list(found.value) == list(directory.get("n.T").fields)


def test_every_form_and_every_version_on_the_way(directory: SchemaDirectory) -> None:
    codec = Codec(directory, upcasters=CHAIN)
    framed = codec.encode("n.T", 1, OLD)
    at_ms = 1_790_000_000_000
    read = codec.decode_json_ready(framed, reader=directory.get("n.T"))
    assert read.value == {"id": "a", "price": "12.99", "lines": [{"cents": 1299}], "at": at_ms, "note": None}
    wire = codec.decode(framed, reader=directory.get("n.T"), logical=False)
    assert wire.value["price"] == (1299).to_bytes(2, "big")
    assert codec.decode(framed, reader=directory.get("n.T", 2)).value == {"id": "a", "cents": 1299, "at": AT}
    assert codec.decode(framed, reader=directory.get("n.T", 3)).value == {
        "id": "a",
        "cents": 1299,
        "at": AT,
        "note": None,
    }
    assert codec.decode(framed).value == OLD, "without a reader nothing is changed"
    for form in WireForm:
        made = codec.encoder(directory.get("n.T", 1), wire_form=form)(OLD)
        header = dict(codec.schema_headers(directory.get("n.T", 1), form)).get("__value_schema_id")
        again = codec.decoder(directory.get("n.T"), Form.JSON)(made, header)
        assert again.value == read.value


def test_new_values_and_other_subjects_are_read_without_a_call(tmp_path: Path) -> None:
    def never(value: Value) -> Value:
        raise AssertionError

    folder = write_folder(tmp_path, V1, V2, record(("a", "int"), name="Other"), record(("a", "long"), name="Other"))
    codec = Codec(SchemaDirectory(folder), upcasters=steps((1, never)))
    source = codec.source
    new = {"id": "a", "cents": 1, "at": AT}
    assert codec.decode(codec.encode("n.T", 2, new), reader=source.get("n.T")).value == new
    assert codec.decode(codec.encode("Other", 1, {"a": 1}), reader=source.get("Other")).value == {"a": 1}
    with pytest.raises(IncompatibleError):
        codec.decode(codec.encode("n.T", 2, new), reader=source.get("n.T", 1))


def test_a_fingerprint_does_not_hide_a_step(tmp_path: Path) -> None:
    """Both versions have the same schema; the upcaster says that their values mean different things."""
    folder = write_folder(tmp_path, record(("price", "long")), record(("price", "long"), doc="in cents"))
    codec = Codec(
        SchemaDirectory(folder), upcasters=Upcasters([Upcaster("T", 1, lambda v: {"price": v["price"] * 100})])
    )
    contract = codec.source.get("T", 1)
    assert codec.decode(codec.encode("T", 1, {"price": 3}), reader=codec.source.get("T")).value == {"price": 300}
    with pytest.raises(SchemaUnknownError, match="another wire form"):
        codec.encoder(contract, wire_form=WireForm.SINGLE_OBJECT)
    made = codec.encoder(contract, wire_form=WireForm.HEADER)({"price": 3})
    header = codec.schema_headers(contract, WireForm.HEADER)[0][1]
    assert codec.decode(made, reader=codec.source.get("T"), schema_header=header).value == {"price": 300}


# --- failures --------------------------------------------------------------------------------------------


def raises(value: Value) -> Value:
    raise KeyError("cents")


def forgets(value: Value) -> Value:
    return {"id": value["id"], "at": value["at"]}


def misspells(value: Value) -> Value:
    return euros_to_cents(value) | {"cent": 1}


def rounds_nothing(value: Value) -> Value:
    return {"id": "a", "at": AT, "cents": 12.99}


def naive(value: Value) -> Value:
    return euros_to_cents(value) | {"at": datetime(2026, 1, 1)}  # noqa: DTZ001


def returns_nothing(value: Value) -> Value:
    value["cents"] = 1
    return None  # type: ignore[return-value]


def bloats(value: Value) -> Value:
    return euros_to_cents(value) | {"id": "x" * 2_000_000}


def recurses(value: Value) -> Value:
    return recurses(value)


@pytest.mark.parametrize(
    ("function", "message", "where"),
    [
        (raises, "raised KeyError: 'cents'", "n.T v2"),
        (forgets, "is none of that version: the field is missing", "n.T v2 cents"),
        (misspells, "is none of that version", "n.T v2"),
        (rounds_nothing, "is none of that version", "n.T v2 cents"),
        (naive, "is none of that version", "n.T v2 at"),
        (returns_nothing, "returned a NoneType, not a dict", "n.T v2"),
        (bloats, "the limit is 1048576", "n.T v2"),
        (recurses, "raised RecursionError", "n.T v2"),
    ],
)
def test_a_failure_names_function_versions_and_field(
    directory: SchemaDirectory, function: Callable[[Value], Value], message: str, where: str
) -> None:
    codec = Codec(directory, upcasters=steps((1, function), (3, cents_to_price)))
    with pytest.raises(UpcastError) as caught:
        codec.decode(codec.encode("n.T", 1, OLD), reader=directory.get("n.T"))
    error = caught.value
    assert error.detail.startswith(f"{__name__}.{function.__name__}, from version 1 to 2 of n.T, ")
    assert message in error.detail
    assert error.where == where
    assert (error.code, error.retriable) == ("upcast_failed", False)


def test_the_place_is_a_path_into_the_value(directory: SchemaDirectory) -> None:
    def spoils(value: Value) -> Value:
        return cents_to_price(value) | {"lines": [{"cents": 1}, {"cents": "two"}]}

    codec = Codec(directory, upcasters=steps((1, euros_to_cents), (3, spoils)))
    with pytest.raises(UpcastError) as caught:
        codec.decode(codec.encode("n.T", 1, OLD), reader=directory.get("n.T"))
    assert caught.value.where == "n.T v4 lines[].cents"


# --- what is refused at start ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (((1, euros_to_cents),), "no way from version 2 of n.T to version 4"),
        (((1, euros_to_cents), (1, raises)), "both lead from version 1 of n.T"),
        (((4, euros_to_cents),), "leads from version 4 to 5 of n.T, which has versions 1 to 4"),
        (((0, euros_to_cents),), "leads from version 0 to 1"),
    ],
)
def test_a_chain_with_a_gap_or_a_step_to_nowhere_is_refused(
    directory: SchemaDirectory, given: tuple[tuple[int, Callable[[Value], Value]], ...], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Codec(directory, upcasters=steps(*given))
    assert message in caught.value.detail
    assert caught.value.remedy


def test_a_step_may_lead_to_a_draft_where_that_is_asked_for(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, V1)
    (folder / "n.T" / "v2.avsc").write_text(json.dumps(V2), encoding="utf-8")
    directory = SchemaDirectory(folder, drafts=True)
    with pytest.raises(ConfigError, match="register the version first"):
        Codec(directory, upcasters=steps((1, euros_to_cents)))
    codec = Codec(directory, upcasters=steps((1, euros_to_cents)), drafts=True)
    found = codec.decode(codec.encode("n.T", 1, OLD), reader=directory.drafts[0])
    assert found.value == {"id": "a", "cents": 1299, "at": AT}


def test_versions_before_the_first_step_are_none_of_the_chain(directory: SchemaDirectory) -> None:
    codec = Codec(directory, upcasters=steps((3, cents_to_price)))
    with pytest.raises(IncompatibleError):
        codec.decode(codec.encode("n.T", 1, OLD), reader=directory.get("n.T"))


def test_an_unknown_subject_is_refused(directory: SchemaDirectory) -> None:
    with pytest.raises(ConfigError, match=r"no subject is called 'n\.X'"):
        Codec(directory, upcasters=Upcasters([Upcaster("n.X", 1, raises)]))


# --- a user's module -------------------------------------------------------------------------------------

MODULE = """
from broker_bridge.contracts import upcaster
from {helper} import helped

@upcaster("n.T", from_version=1)
def euros_to_cents(value):
    value["cents"] = round(value.pop("euros") * {factor})
    return value

def no_upcaster(value):
    return value
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], str]]:
    """Writes a module and answers its name; none stays imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        sys.modules.pop(name, None)
        return name

    yield write
    for name in set(sys.modules) - before:
        if isinstance(sys.modules[name], ModuleType) and str(tmp_path) in str(
            getattr(sys.modules[name], "__file__", "")
        ):
            del sys.modules[name]


HELPER = """
from broker_bridge.contracts import upcaster

@upcaster("n.T", from_version=3)
@upcaster("n.Other", from_version=1)
def helped(value):
    return value
"""


def test_a_module_has_its_own_functions_and_those_it_imports(module: Callable[[str, str], str]) -> None:
    module("upcast_helper", HELPER)
    name = module("upcast_shop", MODULE.format(helper="upcast_helper", factor=100))
    found = load_upcasters(name)
    assert {(subject, version) for subject, some in found._steps.items() for version in some} == {
        ("n.T", 1),
        ("n.T", 3),
        ("n.Other", 1),
    }


def test_the_decorated_function_is_still_a_function() -> None:
    @upcaster("n.T", from_version=1)
    def add_one(value: Value) -> Value:
        return {"a": value["a"] + 1}

    assert add_one({"a": 1}) == {"a": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise RuntimeError('no')", "cannot import the module of upcasters: RuntimeError: no"),
        ("def (", "SyntaxError"),
        ("def one(value):\n    return value\n", "the module has no upcaster"),
    ],
)
def test_a_module_of_no_use_is_told(module: Callable[[str, str], str], text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_upcasters(module("upcast_broken", text))
    assert message in caught.value.detail
    with pytest.raises(ConfigError, match="ModuleNotFoundError"):
        load_upcasters("upcast_nowhere")


def status(*arguments: str) -> int:
    """The exit status of the command line."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return int(str(left.value.code))


def test_golden_vectors_hold_a_function_to_what_it_did(
    module: Callable[[str, str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path / "schemas", V1, V2)
    (folder / "golden").mkdir()
    file = folder / "golden" / "old.json"
    stated = {"id": "a", "euros": 12.99, "at": 1_790_000_000_000}
    read_as = {"version": 2, "value": {"id": "a", "cents": 1299, "at": 1_790_000_000_000}}
    file.write_text(
        json.dumps({"name": "old", "subject": "n.T", "version": 1, "key": "k", "value": stated, "read_as": read_as})
    )
    only = MODULE.replace("from {helper} import helped\n", "")
    name = module("upcast_golden", only.format(factor=100))
    [report] = verify(Codec(SchemaDirectory(folder), upcasters=load_upcasters(name)), partition_of)
    assert not [problem for problem in report.problems if problem.startswith("read_as")]

    command = ["schemas", "golden", "--dir", str(folder), "--upcasters"]
    assert status(*command, name, "--write") == 0
    assert status(*command, name) == 0
    changed = module("upcast_changed", only.format(factor=99))
    assert status(*command, changed) == 1
    assert "read_as is" in capsys.readouterr().out
    assert status("schemas", "golden", "--dir", str(folder)) == 1, "without upcasters version 2 cannot read version 1"


def test_an_async_function_is_no_upcaster() -> None:
    async def later(value: dict[str, Any]) -> dict[str, Any]:
        return value

    with pytest.raises(ConfigError, match="is an async function") as refused:
        upcaster("shop.OrderPlaced", from_version=1)(later)
    assert refused.value.where == "upcaster of shop.OrderPlaced from version 1"
