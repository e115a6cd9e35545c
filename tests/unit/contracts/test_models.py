"""Models from contracts, and what is found where a model and its contract have drifted apart."""

from __future__ import annotations

import enum
import importlib.util
import json
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest
from avro_strategies import contracts
from hypothesis import HealthCheck, given, settings
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from schema_folder import SCHEMAS, record

from broker_bridge.contracts import Contract, Form, SchemaDirectory, parse_contract
from broker_bridge.contracts.guards import Limits
from broker_bridge.contracts.model_drift import Use, drift
from broker_bridge.contracts.model_generator import generate_models
from broker_bridge.contracts.reader_compiler import compile_reader
from broker_bridge.contracts.sample_values import samples
from broker_bridge.contracts.writer_compiler import compile_writer
from broker_bridge.errors import ContractError, ToolMissingError

EXAMPLES = SCHEMAS.parent / "examples" / "python"
TIME = {"type": "long", "logicalType": "timestamp-millis"}
MONEY = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
KIND = {"type": "enum", "name": "Kind", "symbols": ["A", "B"], "default": "A"}
PART = {"type": "record", "name": "Part", "fields": [{"name": "sku", "type": "string"}]}
SCHEMA = record(
    ("id", "string"),
    ("n", "long"),
    ("at", TIME),
    ("total", MONEY),
    ("kind", KIND),
    ("note", ["null", "string"], None),
    ("parts", {"type": "array", "items": PART}),
    ("tags", {"type": "map", "values": ["null", "int"]}, {}),
    ("channel", "string", "web"),
)


def contract(schema: Any = SCHEMA) -> Contract:
    return parse_contract(json.dumps(schema))


class Kind(enum.StrEnum):
    A = "A"
    B = "B"


class Part(BaseModel):
    sku: str


class Whole(BaseModel):
    id: str
    n: int
    at: AwareDatetime
    total: Decimal
    kind: Kind
    note: str | None = None
    parts: list[Part]
    tags: dict[str, int | None] = {}
    channel: str = "web"


def test_alike() -> None:
    assert drift(Whole, contract()) == []
    assert [drift(Whole, contract(), use) for use in Use] == [[], [], []]


class NoNote(Whole):
    note: str


class NoneId(Whole):
    id: str | None


class More(Whole):
    extra: int = 0


class OtherDefault(Whole):
    channel: str = "shop"


class OneSymbol(Whole):
    kind: Literal["A"]


class ThreeSymbols(Whole):
    kind: Literal["A", "B", "C"]


class AnyText(Whole):
    kind: str


class OtherPart(Whole):
    class Inner(BaseModel):
        sku: str
        size: int = 0

    parts: list[Inner]


class NoneInMap(Whole):
    tags: dict[str, int] = {}


class Narrow(Whole):
    n: int = Field(ge=0)


class Rounded(Whole):
    total: float


class Text(Whole):
    at: str


class Forgetful(Whole):
    @property
    def nothing(self) -> None: ...

    def model_dump(self, **more: Any) -> dict[str, Any]:
        return super().model_dump(**more) | {"note": None}


@pytest.mark.parametrize(
    ("model", "field", "message"),
    [
        (NoNote, "note", "the schema lets it be null, the model has no None"),
        (NoneId, "id", "the model lets it be None, the schema has no null"),
        (More, "extra", "More has it, the schema does not"),
        (OtherDefault, "channel", "its default is 'shop' in the model and 'web' in the schema"),
        (OneSymbol, "kind", "the model does not know B"),
        (ThreeSymbols, "kind", "the schema does not know C"),
        (AnyText, "kind", "the model takes any text, the schema only A, B"),
        (OtherPart, "parts[].size", "Inner has it, the schema does not"),
        (NoneInMap, "tags[]", "the schema lets it be null, the model has no None"),
        (Narrow, "n", "the model refuses -9223372036854775808"),
        (Rounded, "T v1 total", "the schema refuses what the model makes of"),
        (Text, "at", "the model refuses datetime"),
        (Forgetful, "note", "'a' comes back as None"),
    ],
)
def test_what_has_drifted_is_named(model: type[BaseModel], field: str, message: str) -> None:
    (found,) = drift(model, contract())
    assert found.field.endswith(field.rpartition(" ")[2])
    assert found.message.startswith(message)


def test_a_field_that_is_missing() -> None:
    class Less(BaseModel):
        id: str

    names = [one.field for one in drift(Less, contract(), Use.WRITER)]
    assert names == ["n", "at", "total", "kind", "note", "parts", "tags", "channel"]
    assert drift(Less, contract(), Use.READER) == [], "a reader takes what it wants"


def test_a_reader_that_requires_what_is_not_written() -> None:
    class Greedy(BaseModel):
        id: str
        price: int

    (found,) = drift(Greedy, contract(), Use.READER)
    assert (found.field, found.message) == ("price", "Greedy requires it, T has none")


def test_names_that_python_reserves() -> None:
    class Aliased(BaseModel):
        model_config = ConfigDict(serialize_by_alias=True)
        class_: int = Field(alias="class")

    schema = contract(record(("class", "int")))
    assert drift(Aliased, schema) == []
    Aliased.model_config["serialize_by_alias"] = False
    assert [one.field for one in drift(Aliased, schema)] == ["class_"]


class Tree(BaseModel):
    value: int
    children: list[Tree]


def test_recursive_models() -> None:
    nodes = {"type": "array", "items": "T"}
    assert drift(Tree, contract(record(("value", "int"), ("children", nodes)))) == []
    found = drift(Tree, contract(record(("value", "int"), ("children", nodes), ("more", "int"))))
    assert [one.field for one in found] == ["more"]


# --- generated -----------------------------------------------------------------------------------------------------


def imported(source: str, folder: Path, name: str) -> ModuleType:
    file = folder / f"{name}.py"
    file.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


EVERYTHING = record(
    ("u", {"type": "string", "logicalType": "uuid"}),
    ("micros", {"type": "long", "logicalType": "timestamp-micros"}),
    ("day", {"type": "int", "logicalType": "date"}),
    ("clock", {"type": "int", "logicalType": "time-millis"}),
    ("local", {"type": "long", "logicalType": "local-timestamp-millis"}),
    ("money", MONEY),
    ("kind", KIND, "B"),
    ("part", PART),
    ("parts", {"type": "array", "items": "Part"}),
    ("tags", {"type": "map", "values": "long"}, {}),
    ("raw", {"type": "fixed", "name": "F", "size": 4}),
    ("b", "bytes"),
    ("f", "float"),
    ("d", "double", 1.5),
    ("class", "boolean"),
    ("some", ["null", "int", "string", "Part"], None),
    ("again", ["null", "T"], None),
)


def test_generated_models_are_alike(tmp_path: Path) -> None:
    module = imported(generate_models(contract(EVERYTHING)), tmp_path, "everything_models")
    assert drift(module.T, contract(EVERYTHING)) == []
    assert [one.field for one in drift(module.T, contract(record(("u", "string"), ("x", "int"))))][:1] == ["x"]


@pytest.mark.parametrize(
    ("subject", "file", "name"),
    [
        ("shop.OrderPlaced", "order_placed.py", "OrderPlaced"),
        ("shop.PaymentCaptured", "payment_captured.py", "PaymentCaptured"),
    ],
)
def test_the_examples_models_are_what_the_generator_writes(tmp_path: Path, subject: str, file: str, name: str) -> None:
    source = (EXAMPLES / file).read_text(encoding="utf-8")
    newest = SchemaDirectory(SCHEMAS).get(subject)
    assert source == generate_models(newest), f"run: broker-bridge schemas model {subject} --out examples/python/{file}"
    assert drift(getattr(imported(source, tmp_path, f"{name}_models"), name), newest) == []


def test_no_generator() -> None:
    with pytest.raises(ToolMissingError, match="not installed"):
        generate_models(contract(), "no_such_generator")


def test_a_schema_the_generator_cannot_do() -> None:
    """Any program that ends badly: what it says last is told."""
    with pytest.raises(ContractError, match=r"cannot do this schema: .*unrecognized arguments"):
        generate_models(contract(), "json.tool")


# --- samples -------------------------------------------------------------------------------------------------------


@given(contracts())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_samples_are_values_of_their_schema(case: tuple[Any, list[Any]]) -> None:
    made = contract(case[0])
    write, read = compile_writer(made, Form.PYTHON, Limits()), compile_reader(made, None, Form.PYTHON, Limits())
    found = samples(made.tree)
    assert all(read(write(one, b""), 0) == one for one in found)


def test_samples_use_every_branch_and_symbol() -> None:
    found = samples(contract(EVERYTHING).tree)
    assert {one["kind"] for one in found} == {"A", "B"}
    assert {type(one["some"]) for one in found} == {type(None), int, str, dict}
    assert any(isinstance(one["again"], dict) for one in found)
    assert all(isinstance(one["micros"], datetime) for one in found)
