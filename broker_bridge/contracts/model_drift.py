"""Whether a pydantic model and a contract still say the same: by their shapes, and by values going through both."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, RootModel, ValidationError
from pydantic.fields import FieldInfo

from broker_bridge.contracts.contract import Contract
from broker_bridge.contracts.defaults import default_value
from broker_bridge.contracts.forms import Form
from broker_bridge.contracts.guards import Limits
from broker_bridge.contracts.reader_compiler import compile_reader
from broker_bridge.contracts.sample_values import samples
from broker_bridge.contracts.schema_tree import MISSING, Field, Node
from broker_bridge.contracts.writer_compiler import compile_writer
from broker_bridge.errors import ContractError


class Use(Enum):
    """What a model is for. A reader may leave out fields it does not want; a writer may not."""

    READER = "reader"
    WRITER = "writer"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Drift:
    """One thing in which model and schema differ. ``field`` is for people (``lines[].sku``, empty for the whole)."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field or 'the model'}: {self.message}"


def drift(model: type[BaseModel], contract: Contract, use: Use = Use.BOTH) -> list[Drift]:
    """Everything in which they differ. Values are only tried where the shapes are alike."""
    found = list(_Shapes(use).record(model, contract.tree, ""))
    return found or list(_by_values(model, contract, use))


# --- shapes --------------------------------------------------------------------------------------------------------


class _Shapes:
    def __init__(self, use: Use) -> None:
        self.use = use
        self.seen: set[tuple[type[BaseModel], Node]] = set()

    def record(self, model: type[BaseModel], node: Node, place: str) -> Iterator[Drift]:
        if (model, node) in self.seen:
            return
        self.seen.add((model, node))
        declared = {_read_name(name, info): info for name, info in model.model_fields.items()}
        written = {_written_name(model, name, info): info for name, info in model.model_fields.items()}
        fields = {one.name: one for one in node.fields}
        for name, field in fields.items():
            here = f"{place}.{name}".removeprefix(".")
            if name in declared:
                yield from self.field(declared[name], field, here)
            elif self.use is not Use.READER:
                yield Drift(here, f"{model.__name__} has no such field")
        if self.use is not Use.READER:
            yield from self.unwritable(model, written, fields, place)
        else:
            for name in declared.keys() - fields.keys():
                if declared[name].is_required():
                    yield Drift(
                        f"{place}.{name}".removeprefix("."), f"{model.__name__} requires it, {node.name} has none"
                    )

    def unwritable(
        self, model: type[BaseModel], written: Mapping[str, Any], fields: Mapping[str, Field], place: str
    ) -> Iterator[Drift]:
        for name in written:
            if name not in fields:
                yield Drift(f"{place}.{name}".removeprefix("."), f"{model.__name__} has it, the schema does not")

    def field(self, info: FieldInfo, field: Field, place: str) -> Iterator[Drift]:
        yield from self.type(info.annotation, field.type, place)
        if field.default is MISSING or info.is_required() or info.default_factory is not None:
            return
        wanted, given = default_value(field.type, field.default, Form.PYTHON), info.default
        given = given.value if isinstance(given, Enum) else given
        if given != wanted:
            yield Drift(place, f"its default is {given!r} in the model and {wanted!r} in the schema")

    def type(self, annotation: Any, node: Node, place: str) -> Iterator[Drift]:
        """What can be told of a type without a value; values tell the rest."""
        parts = _parts(annotation)
        if Any in parts or object in parts:
            return
        none, null = type(None) in parts, _has_null(node)
        if none and not null and self.use is not Use.READER:
            yield Drift(place, "the model lets it be None, the schema has no null")
        if null and not none and self.use is not Use.WRITER:
            yield Drift(place, "the schema lets it be null, the model has no None")
        branches = [one for one in (node.branches or [node]) if one.kind != "null"]
        others = [one for one in parts if one is not type(None)]
        if len(branches) == 1 and len(others) == 1:
            yield from self.single(others[0], branches[0], place)

    def single(self, annotation: Any, node: Node, place: str) -> Iterator[Drift]:
        if node.kind == "record" and _is_model(annotation):
            yield from self.record(annotation, node, place)
        elif node.kind == "enum":
            yield from self.symbols(annotation, node, place)
        elif node.kind in ("array", "map") and get_args(annotation):
            yield from self.type(get_args(annotation)[-1], node.element, f"{place}[]")

    def symbols(self, annotation: Any, node: Node, place: str) -> Iterator[Drift]:
        known = _symbols(annotation)
        if known is None:
            if self.use is not Use.READER:
                yield Drift(place, f"the model takes any text, the schema only {', '.join(node.symbols)}")
            return
        lost, more = set(node.symbols) - known, known - set(node.symbols)
        if lost and self.use is not Use.WRITER:
            yield Drift(place, f"the model does not know {', '.join(sorted(lost))}")
        if more and self.use is not Use.READER:
            yield Drift(place, f"the schema does not know {', '.join(sorted(more))}")


def _read_name(name: str, info: FieldInfo) -> str:
    alias = info.validation_alias
    return alias if isinstance(alias, str) else name


def _written_name(model: type[BaseModel], name: str, info: FieldInfo) -> str:
    by_alias = model.model_config.get("serialize_by_alias", False)
    return info.serialization_alias or name if by_alias else name


def _parts(annotation: Any) -> list[Any]:
    """The members of a union, or the one type; annotations of it taken off."""
    if get_origin(annotation) is Annotated:
        return _parts(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [part for one in get_args(annotation) for part in _parts(one)]
    return [annotation]


def _has_null(node: Node) -> bool:
    return node.kind == "null" or any(branch.kind == "null" for branch in node.branches)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel) and not issubclass(annotation, RootModel)


def _symbols(annotation: Any) -> set[str] | None:
    """Texts an enum or a Literal allows; None for any other type."""
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return {one.value for one in annotation}
    return None


# --- values --------------------------------------------------------------------------------------------------------


def _by_values(model: type[BaseModel], contract: Contract, use: Use) -> Iterator[Drift]:
    """Samples of the schema read by the model, and what it makes of them written again."""
    write = compile_writer(contract, Form.PYTHON, Limits())
    read = compile_reader(contract, None, Form.PYTHON, Limits())
    for sample in samples(contract.tree):
        value = read(write(sample, b""), 0)
        try:
            made = model.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            yield Drift(place, f"the model refuses {first['input']!r}: {first['msg']}")
            return
        if use is Use.READER:
            continue
        try:
            again = read(write(made.model_dump(), b""), 0)
        except ContractError as error:
            yield Drift(error.where or "", f"the schema refuses what the model makes of {value!r}: {error.detail}")
            return
        if again != value:
            changed = [name for name in value if again[name] != value[name]]
            yield Drift(changed[0], f"{value[changed[0]]!r} comes back as {again[changed[0]]!r}")
            return
